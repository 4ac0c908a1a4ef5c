//! The `#[filter]` attribute.
//!
//! Reads the names of the functions in an `impl Filter for …` block and adds the items that follow from them. It works
//! on bare tokens: it needs only the word after `fn` and `type`, so a plugin's build needs no parser. The compiler
//! checks the functions themselves against the trait. The generated code refers to plugin-api only through the trait,
//! so that a crate may rename plugin-api.
//!
//! Each detected mistake is one error at its place. The rest of the block is kept, so that no further errors follow.

use plugin_contract::hook::{Hook, NAMES};
use proc_macro::{Delimiter, Group, Ident, Spacing, Span, TokenStream, TokenTree};

/// Traits for other kinds of plugins, which need no attribute.
const OTHER_KINDS: [&str; 3] = ["WebRoutes", "Protocol", "Subscriber"];

/// Completes an `impl Filter for …` block.
///
/// Adds `HOOKS`, `ASYNC_HOOKS`, `KEEPS_STATE` and `KEEPS_CONNECTION` from the contents of the block, and, if they are
/// missing, `type Config = Self`, `type State = ()`, `type Connection = ()` and a `new` that keeps its configuration.
/// An `async fn` becomes the async version of its hook.
#[proc_macro_attribute]
pub fn filter(arguments: TokenStream, item: TokenStream) -> TokenStream {
    if let Some(argument) = arguments.into_iter().next() {
        let refused = refuse(argument.span(), "#[filter] takes no arguments");
        return completed(item).into_iter().chain(refused).collect();
    }
    completed(item)
}

fn completed(item: TokenStream) -> TokenStream {
    let mut item: Vec<TokenTree> = item.into_iter().collect();
    let words: Vec<String> = item.iter().map(word).collect();
    let position = |wanted: &str| words.iter().position(|word| word == wanted);
    let (Some(_), Some(at), Some(TokenTree::Group(body))) =
        (position("impl"), position("for"), item.last())
    else {
        return misplaced();
    };
    let body = body.clone();
    let named = words[..at].iter().rev().find(|word| !word.is_empty());
    if let Some(name) = named.filter(|name| OTHER_KINDS.contains(&name.as_str())) {
        let message = format!(
            "#[filter] belongs on `impl Filter for …`; `impl {name} for …` needs no attribute"
        );
        item.extend(refuse(Span::call_site(), &message));
        return item.into_iter().collect();
    }
    let mut written = Written::default();
    let mut group = Group::new(Delimiter::Brace, written.complete(body.stream()));
    group.set_span(body.span());
    item.pop();
    item.push(group.into());
    let refused = written.refused.into_iter().flatten();
    item.into_iter().chain(refused).collect()
}

/// The single error for an attribute on a type, or on anything but an implementation of a trait.
///
/// Without the attribute, the block lacks items, and `compile_error!` would not keep the compiler from reporting that.
/// Including a missing file ends the compilation at once and shows its name, which is the error message.
fn misplaced() -> TokenStream {
    parse("::core::include!(\"#[filter] belongs on `impl Filter for …`, not here\");")
}

/// The contents of the block.
#[derive(Default)]
struct Written {
    /// Functions, by their final names and their written names.
    functions: Vec<(String, String)>,
    hooks: Vec<Hook>,
    async_hooks: Vec<Hook>,
    types: Vec<String>,
    /// The types that are `()`.
    units: Vec<String>,
    refused: Vec<TokenStream>,
}

impl Written {
    /// The block with missing items added and invalid ones removed.
    fn complete(&mut self, body: TokenStream) -> TokenStream {
        let mut completed = Vec::new();
        let mut item = Vec::new();
        for token in body {
            let is_last = is_end(&item, &token);
            item.push(token);
            if is_last {
                self.item(std::mem::take(&mut item), &mut completed);
            }
        }
        completed.append(&mut item);
        completed.extend(self.missing_items());
        completed.into_iter().collect()
    }

    fn item(&mut self, mut item: Vec<TokenTree>, completed: &mut Vec<TokenTree>) {
        let words: Vec<String> = item.iter().map(word).collect();
        let position = |wanted: &str| words.iter().position(|word| word == wanted);
        if let Some(at) = position("fn") {
            let is_async = words[..at].iter().any(|word| word == "async");
            if let Some(TokenTree::Ident(name)) = item.get(at + 1) {
                match self.function(name, is_async) {
                    Ok(name) => item[at + 1] = name.into(),
                    Err(refused) => return self.refused.push(refused),
                }
            }
        } else if let Some(at) = position("type") {
            if let Some(TokenTree::Ident(name)) = item.get(at + 1) {
                let value = item.get(at + 3);
                if matches!(value, Some(TokenTree::Group(tuple)) if tuple.delimiter() == Delimiter::Parenthesis && tuple.stream().is_empty())
                    && item.len() == at + 5
                {
                    self.units.push(name.to_string());
                }
                self.types.push(name.to_string());
            }
        }
        completed.append(&mut item);
    }

    /// Records a function and returns its final name.
    fn function(&mut self, name: &Ident, is_async: bool) -> Result<Ident, TokenStream> {
        let text = name.to_string();
        let hook = text.strip_suffix("_async").unwrap_or(&text);
        let find = |name: &str| Hook::ALL.into_iter().find(|known| known.name() == name);
        let outcome = find(hook).filter(|hook| hook.has_twin());
        let plain = find(&text).filter(|hook| !hook.has_twin());
        if outcome.is_none() && plain.is_none() && text != "new" {
            return Err(refuse(name.span(), &unknown(&text)));
        }
        if plain.is_some() && is_async {
            let names = names(Hook::has_twin);
            let message = format!("`{text}` cannot be async; these hooks can: {names}");
            return Err(refuse(name.span(), &message));
        }
        let is_twin = outcome.is_some() && (is_async || text != hook);
        let becomes = match is_twin {
            true => format!("{hook}_async"),
            false => text.clone(),
        };
        let is_known =
            |(earlier, written): &(String, String)| *earlier == becomes || *written == text;
        if self.functions.iter().any(is_known) {
            let message =
                format!("`{text}` is defined twice: define each hook once, either sync or async");
            return Err(refuse(name.span(), &message));
        }
        let renamed = Ident::new(&becomes, name.span());
        self.functions.push((becomes, text));
        if let Some(hook) = outcome.or(plain) {
            self.hooks.push(hook);
            if is_twin {
                self.async_hooks.push(hook);
            }
        }
        Ok(renamed)
    }

    fn missing_items(&self) -> TokenStream {
        let keeps = |name: &str| {
            let is_written = self.types.iter().any(|written| written == name);
            is_written && !self.units.iter().any(|unit| unit == name)
        };
        let mut items = format!(
            "const HOOKS: Self::ApiHooks = {}; const ASYNC_HOOKS: Self::ApiHooks = {};
             const KEEPS_STATE: bool = {}; const KEEPS_CONNECTION: bool = {};",
            set(&self.hooks),
            set(&self.async_hooks),
            keeps("State"),
            keeps("Connection"),
        );
        for (name, default) in [("Config", "Self"), ("State", "()"), ("Connection", "()")] {
            if !self.types.iter().any(|written| written == name) {
                items.push_str(&format!("type {name} = {default};"));
            }
        }
        if !self.functions.iter().any(|(name, _)| name == "new") {
            items.push_str(
                "fn new(config: Self::Config) -> ::core::result::Result<Self, Self::ApiError> {
                    ::core::result::Result::Ok(config)
                }",
            );
        }
        parse(&items)
    }
}

/// Whether `token` ends the item that begins with `before`.
fn is_end(before: &[TokenTree], token: &TokenTree) -> bool {
    match token {
        TokenTree::Punct(punct) => punct.as_char() == ';',
        // The body of a function, unless it is a constant argument: `Table<{ 1 + 2 }>`.
        TokenTree::Group(group) => {
            let is_function = before.iter().any(|token| word(token) == "fn");
            let is_macro = matches!(before, [.., TokenTree::Punct(last), TokenTree::Ident(_)] if last.as_char() == '!')
                || matches!(before.last(), Some(TokenTree::Punct(last)) if last.as_char() == '!');
            group.delimiter() == Delimiter::Brace
                && (is_macro || is_function && open_angles(before) == 0)
        }
        _ => false,
    }
}

/// The number of `<` that are open after these tokens.
fn open_angles(tokens: &[TokenTree]) -> usize {
    let (mut open, mut is_arrow) = (0_usize, false);
    for token in tokens {
        let TokenTree::Punct(punct) = token else {
            is_arrow = false;
            continue;
        };
        match punct.as_char() {
            '<' => open += 1,
            '>' if !is_arrow => open = open.saturating_sub(1),
            _ => {}
        }
        is_arrow = matches!(punct.as_char(), '-' | '=') && punct.spacing() == Spacing::Joint;
    }
    open
}

/// The error for a function that is not a hook.
fn unknown(text: &str) -> String {
    let nearest = NAMES
        .into_iter()
        .map(|hook| (distance(text, hook), hook))
        .min()
        .filter(|(distance, hook)| distance * 3 <= hook.len());
    match nearest {
        Some((_, hook)) => {
            format!("`{text}` is not a hook of Filter; did you mean `{hook}`?")
        }
        None => format!(
            "`{text}` is not a hook of Filter; the hooks are {}, {}",
            names(Hook::has_twin),
            names(|hook| !hook.has_twin())
        ),
    }
}

/// The number of letters to change, add or remove to convert one word to the other.
fn distance(one: &str, other: &str) -> usize {
    let mut above: Vec<usize> = (0..=other.len()).collect();
    for (row, letter) in one.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut above[0], row + 1);
        for (column, other) in other.bytes().enumerate() {
            let changed = diagonal + usize::from(letter != other);
            diagonal = above[column + 1];
            above[column + 1] = changed.min(diagonal + 1).min(above[column] + 1);
        }
    }
    above[other.len()]
}

/// A set of hooks as an expression.
fn set(hooks: &[Hook]) -> String {
    let mut set = String::from("<Self::ApiHooks>::NONE");
    for hook in hooks {
        let constant = hook.name().to_ascii_uppercase();
        set.push_str(&format!(".with(<Self::ApiHooks>::{constant})"));
    }
    set
}

/// The names of the hooks for which `is_wanted` holds.
fn names(is_wanted: impl Fn(Hook) -> bool) -> String {
    let wanted = Hook::ALL.into_iter().filter(|hook| is_wanted(*hook));
    wanted.map(Hook::name).collect::<Vec<_>>().join(", ")
}

/// The token's text if it is a word, else empty.
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

#[cfg(test)]
mod tests {
    use super::{distance, unknown};

    #[test]
    fn counts_the_letters_that_differ() {
        for (one, other, letters) in [
            ("", "", 0),
            ("on", "", 2),
            ("on_acess_log", "on_access_log", 1),
            ("resolve", "resolve_dns", 4),
            ("abc", "xbd", 2),
        ] {
            assert_eq!(distance(one, other), letters, "{one} {other}");
            assert_eq!(distance(other, one), letters, "{other} {one}");
        }
    }

    #[test]
    fn suggests_a_similar_hook_or_lists_all() {
        let slip = unknown("before_upstream_conection");
        assert!(
            slip.ends_with("did you mean `before_upstream_connection`?"),
            "{slip}"
        );
        let other = unknown("helper");
        assert!(other.contains("the hooks are authenticate, "), "{other}");
    }
}
