//! The `#[filter]` attribute.
//!
//! Reads the names of the functions in an `impl Filter for …` block and adds the items that follow from them. It
//! works on bare tokens: all it needs is the word after `fn` and `type`, and a plugin's build stays free of a
//! parser. What the functions look like is left to the compiler, which checks them against the trait.

use proc_macro::{Delimiter, Group, Ident, Span, TokenStream, TokenTree};

/// Hooks that have an async twin, with the names of their constants.
const OUTCOME_HOOKS: [(&str, &str); 9] = [
    ("authenticate", "AUTHENTICATE"),
    ("before_upstream_connection", "BEFORE_UPSTREAM_CONNECTION"),
    ("handle_client_request", "HANDLE_CLIENT_REQUEST"),
    ("handle_tls_hello", "HANDLE_TLS_HELLO"),
    ("handle_client_body", "HANDLE_CLIENT_BODY"),
    ("resolve_dns", "RESOLVE_DNS"),
    ("on_upstream_failed", "ON_UPSTREAM_FAILED"),
    ("handle_upstream_response", "HANDLE_UPSTREAM_RESPONSE"),
    ("handle_upstream_body", "HANDLE_UPSTREAM_BODY"),
];

/// Hooks that have none.
const PLAIN_HOOKS: [(&str, &str); 12] = [
    ("on_client_connection", "ON_CLIENT_CONNECTION"),
    ("on_client_connection_close", "ON_CLIENT_CONNECTION_CLOSE"),
    ("do_intercept", "DO_INTERCEPT"),
    ("on_upstream_connected", "ON_UPSTREAM_CONNECTED"),
    ("handle_client_chunk", "HANDLE_CLIENT_CHUNK"),
    ("handle_client_trailers", "HANDLE_CLIENT_TRAILERS"),
    ("handle_upstream_chunk", "HANDLE_UPSTREAM_CHUNK"),
    ("handle_upstream_trailers", "HANDLE_UPSTREAM_TRAILERS"),
    ("handle_tunnel_chunk", "HANDLE_TUNNEL_CHUNK"),
    ("handle_websocket_message", "HANDLE_WEBSOCKET_MESSAGE"),
    ("on_access_log", "ON_ACCESS_LOG"),
    (
        "on_upstream_connection_close",
        "ON_UPSTREAM_CONNECTION_CLOSE",
    ),
];

/// Completes an `impl Filter for …` block.
///
/// Adds `HOOKS` and `ASYNC_HOOKS` from the functions that are written, and where they are missing
/// `type Config = Self`, `type State = ()`, `type Connection = ()` and a `new` that keeps its configuration. An `async fn` becomes the
/// async twin of its hook.
#[proc_macro_attribute]
pub fn filter(arguments: TokenStream, item: TokenStream) -> TokenStream {
    if let Some(argument) = arguments.into_iter().next() {
        return refuse(argument.span(), "#[filter] takes no arguments");
    }
    let mut item: Vec<TokenTree> = item.into_iter().collect();
    match item.pop() {
        Some(TokenTree::Group(body)) if body.delimiter() == Delimiter::Brace => {
            match complete(body.stream()) {
                Ok(completed) => {
                    let mut group = Group::new(Delimiter::Brace, completed);
                    group.set_span(body.span());
                    item.push(group.into());
                    item.into_iter().collect()
                }
                Err(refused) => refused,
            }
        }
        _ => refuse(
            Span::call_site(),
            "#[filter] belongs above `impl Filter for …`",
        ),
    }
}

/// What is written in the block.
#[derive(Default)]
struct Written {
    hooks: Vec<&'static str>,
    async_hooks: Vec<&'static str>,
    types: Vec<String>,
    has_new: bool,
}

fn complete(body: TokenStream) -> Result<TokenStream, TokenStream> {
    let mut written = Written::default();
    let mut completed = Vec::new();
    let mut before = String::new();
    let mut is_async = false;
    for token in body {
        let token = match token {
            TokenTree::Ident(name) if before == "fn" => {
                TokenTree::Ident(written.function(name, is_async)?)
            }
            other => other,
        };
        let word = word(&token);
        match before.as_str() {
            "type" => written.types.push(word.clone()),
            "async" => is_async = word == "fn",
            "fn" => is_async = false,
            _ => {}
        }
        before = word;
        completed.push(token);
    }
    completed.extend(written.missing_items());
    Ok(completed.into_iter().collect())
}

impl Written {
    /// Notes a function and gives the name it shall have.
    fn function(&mut self, name: Ident, is_async: bool) -> Result<Ident, TokenStream> {
        let text = name.to_string();
        let hook = text.strip_suffix("_async").unwrap_or(&text);
        if let Some((_, constant)) = OUTCOME_HOOKS.iter().find(|known| known.0 == hook) {
            self.hooks.push(constant);
            if is_async || text != hook {
                self.async_hooks.push(constant);
                return Ok(Ident::new(&format!("{hook}_async"), name.span()));
            }
            return Ok(name);
        }
        if let Some((_, constant)) = PLAIN_HOOKS.iter().find(|known| known.0 == text) {
            if is_async {
                let names = names(&OUTCOME_HOOKS);
                let message = format!("`{text}` cannot be async; the hooks that can are {names}");
                return Err(refuse(name.span(), &message));
            }
            self.hooks.push(constant);
            return Ok(name);
        }
        if text == "new" {
            self.has_new = true;
            return Ok(name);
        }
        let (some, others) = (names(&OUTCOME_HOOKS), names(&PLAIN_HOOKS));
        let message = format!("`{text}` is not a hook of Filter; the hooks are {some}, {others}");
        Err(refuse(name.span(), &message))
    }

    fn missing_items(&self) -> TokenStream {
        let mut items = format!(
            "const HOOKS: ::plugin_api::Hooks = {}; const ASYNC_HOOKS: ::plugin_api::Hooks = {};",
            set(&self.hooks),
            set(&self.async_hooks),
        );
        let is_written = |name: &str| self.types.iter().any(|written| written == name);
        items.push_str(&format!(
            "const KEEPS_STATE: bool = {}; const KEEPS_CONNECTION: bool = {};",
            is_written("State"),
            is_written("Connection"),
        ));
        for (name, default) in [("Config", "Self"), ("State", "()"), ("Connection", "()")] {
            if !self.types.iter().any(|written| written == name) {
                items.push_str(&format!("type {name} = {default};"));
            }
        }
        if !self.has_new {
            items.push_str(
                "fn new(config: Self::Config) -> ::core::result::Result<Self, ::plugin_api::Error> {
                    ::core::result::Result::Ok(config)
                }",
            );
        }
        parse(&items)
    }
}

/// A set of hooks as an expression.
fn set(constants: &[&str]) -> String {
    let mut set = String::from("::plugin_api::Hooks::NONE");
    for constant in constants {
        set.push_str(&format!(".with(::plugin_api::Hooks::{constant})"));
    }
    set
}

fn names(hooks: &[(&str, &str)]) -> String {
    hooks
        .iter()
        .map(|hook| hook.0)
        .collect::<Vec<_>>()
        .join(", ")
}

/// The token's text if it is a word, else nothing.
fn word(token: &TokenTree) -> String {
    match token {
        TokenTree::Ident(name) => name.to_string(),
        _ => String::new(),
    }
}

/// A compile error at `span`.
fn refuse(span: Span, message: &str) -> TokenStream {
    let error = parse(&format!("::core::compile_error!({message:?});"));
    error
        .into_iter()
        .map(|mut token| {
            token.set_span(span);
            token
        })
        .collect()
}

fn parse(source: &str) -> TokenStream {
    source.parse().expect("this file writes valid Rust")
}
