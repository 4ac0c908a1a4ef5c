//! Plugins that answer requests addressed to the proxy itself: routes of its web server.
#![expect(unsafe_code, reason = "the other side of the boundary passes pointers")]

mod exchange;
mod route;
mod socket;

pub use exchange::{ForwardError, ForwardFault, ForwardTo, Forwarded, WebExchange};
pub use route::Route;
pub use socket::{SocketMessage, WebSocket};

use crate::abi::web::{RouteSink, WebTable, WebTableRef, WebView};
use crate::abi::{ErrorSink, RawWaker, code};
use crate::adapter::{called, created, destroy, report_panicked_end};
use crate::{Error, configuration, waker};
use abi_stable::prefix_type::WithMetadata;
use abi_stable::std_types::RStr;
use core::ffi::c_void;
use serde::de::DeserializeOwned;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::ptr;
use std::task::Poll;

/// A plugin that answers requests addressed to the proxy itself, such as `http://localhost:8899/path`.
///
/// It declares its paths once; the proxy calls it for requests for them, over plain HTTP, TLS or as a WebSocket.
/// Everything runs on the thread of the connection, like an async hook, and must not block. Filters do not see these
/// requests, unless they are [forwarded](WebExchange::forward).
///
/// ```
/// use plugin_api::prelude::*;
/// use plugin_api::{Route, SocketMessage, WebExchange, WebRoutes, WebSocket};
///
/// struct Hello;
///
/// impl WebRoutes for Hello {
///     type Config = NoConfig;
///     fn new(_: NoConfig) -> Result<Self, Error> { Ok(Self) }
///
///     fn routes(&self) -> Vec<Route> {
///         vec![Route::new("/hello/{name}").methods("GET"), Route::websocket("/echo")]
///     }
///
///     async fn handle_request(&self, exchange: &mut WebExchange) -> Result<(), Error> {
///         let name = exchange.capture("name").unwrap_or("you");
///         exchange.reply(Reply::new(200).body(format!("Hello, {name}\n")))
///     }
///
///     async fn on_websocket_message(&self, socket: &mut WebSocket, message: SocketMessage) -> Result<(), Error> {
///         socket.send(message.kind, message.data).await
///     }
/// }
/// export_plugins!(; web: Hello);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a plugin with routes",
    note = "`export_plugins!(; web: …)` takes types that implement `WebRoutes`; filters come before the first semicolon, and other plugins after the name of their kind"
)]
pub trait WebRoutes: Sized + Send + Sync + 'static {
    /// As [`Filter::CONFIG_SCHEMA`](crate::Filter::CONFIG_SCHEMA).
    const CONFIG_SCHEMA: &'static str = "";
    /// As [`Filter::Config`](crate::Filter::Config).
    type Config: DeserializeOwned;

    /// Called once, before the first request; may block.
    ///
    /// # Errors
    /// An error prevents startup, with its message.
    fn new(config: Self::Config) -> Result<Self, Error>;

    /// The routes of this plugin. Called once, after [`new`](Self::new). An invalid pattern, or a pattern that another
    /// plugin uses for the same protocol and method, prevents startup.
    fn routes(&self) -> Vec<Route>;

    /// A request for one of the [routes](Self::routes) that is not a WebSocket. The response is what was
    /// [replied](WebExchange::reply) or [sent](WebExchange::send) when this returns; if that is nothing, the client
    /// gets 500. Dropped when the client disconnects.
    ///
    /// # Errors
    /// Are logged; the client gets 500, or a visibly incomplete response.
    fn handle_request(
        &self,
        exchange: &mut WebExchange,
    ) -> impl Future<Output = Result<(), Error>> {
        async {
            let _ = exchange;
            Err(Error::new(
                "handle_request is not implemented for this route",
            ))
        }
    }

    /// A client requests a WebSocket on one of the [routes](Self::routes). It is accepted with the first message that
    /// is received or sent, and closed when this returns. By default it calls the three hooks below; override it to
    /// keep state per WebSocket, or to send messages at any time.
    ///
    /// # Errors
    /// Are logged; the client gets 500 if the WebSocket was not accepted yet, else a Close with 1011.
    fn handle_websocket(&self, socket: &mut WebSocket) -> impl Future<Output = Result<(), Error>> {
        async {
            self.on_websocket_open(socket).await?;
            while let Some(message) = socket.receive().await? {
                self.on_websocket_message(socket, message).await?;
            }
            self.on_websocket_close(socket).await
        }
    }

    /// A client requests a WebSocket. May [accept](WebSocket::accept) a subprotocol, send, and
    /// [refuse](WebSocket::refuse).
    ///
    /// # Errors
    /// See [`handle_websocket`](Self::handle_websocket).
    fn on_websocket_open(&self, socket: &mut WebSocket) -> impl Future<Output = Result<(), Error>> {
        async {
            let _ = socket;
            Ok(())
        }
    }

    /// A whole text or binary message has arrived. The proxy answers pings.
    ///
    /// # Errors
    /// See [`handle_websocket`](Self::handle_websocket).
    fn on_websocket_message(
        &self,
        socket: &mut WebSocket,
        message: SocketMessage,
    ) -> impl Future<Output = Result<(), Error>> {
        async {
            let _ = (socket, message);
            Ok(())
        }
    }

    /// The client has closed the WebSocket or disconnected; [`WebSocket::close_code`] has its code.
    ///
    /// # Errors
    /// Are logged.
    fn on_websocket_close(
        &self,
        socket: &mut WebSocket,
    ) -> impl Future<Output = Result<(), Error>> {
        async {
            let _ = socket;
            Ok(())
        }
    }
}

/// The functions of one plugin type with routes.
pub(crate) struct Table<W>(PhantomData<W>);

impl<W: WebRoutes> Table<W> {
    abi_stable::staticref!(const TABLE: WithMetadata<WebTable> = WithMetadata::new(WebTable {
        create: create::<W>,
        destroy: destroy::<W>,
        routes: routes::<W>,
        serve: serve::<W>,
        poll: poll::<W>,
        drop: end::<W>,
    }));

    /// The table as it crosses the boundary.
    pub(crate) const REF: WebTableRef = WebTableRef(Self::TABLE.as_prefix());
}

/// The response to a request, in progress.
struct RequestTask {
    view: WebView,
    future: Pin<Box<dyn Future<Output = Result<(), Error>>>>,
}

// SAFETY, for all functions of the table: the pointers are what `abi::web::WebTable` promises.

unsafe extern "C" fn create<W: WebRoutes>(config: RStr<'_>, errors: &ErrorSink) -> *mut c_void {
    let make = || W::new(configuration::read(config.as_str())?);
    unsafe { created(make, errors) }
}

unsafe extern "C" fn routes<W: WebRoutes>(plugin: *mut c_void, sink: &RouteSink) -> u32 {
    let listed = called::<W, _>(|| {
        for route in unsafe { &*plugin.cast::<W>() }.routes() {
            unsafe { (sink.add)(sink.context, &route.view()) };
        }
    });
    match listed {
        Ok(()) => 0,
        Err(panic) => {
            let plugin = std::any::type_name::<W>();
            crate::error!("{plugin} panicked while listing its routes: {panic}");
            1
        }
    }
}

unsafe extern "C" fn serve<W: WebRoutes>(plugin: *mut c_void, view: &WebView) -> *mut c_void {
    // The plugin outlives its tasks.
    let plugin: &'static W = unsafe { &*plugin.cast::<W>() };
    let view = *view;
    let made = called::<W, _>(|| {
        let mut exchange = unsafe { WebExchange::new(view) };
        let future: Pin<Box<dyn Future<Output = Result<(), Error>>>> = match view.is_websocket {
            0 => Box::pin(async move { plugin.handle_request(&mut exchange).await }),
            _ => {
                let mut socket = WebSocket::new(exchange);
                Box::pin(async move { plugin.handle_websocket(&mut socket).await })
            }
        };
        Box::into_raw(Box::new(RequestTask { view, future }))
    });
    made.map_or(ptr::null_mut(), <*mut RequestTask>::cast)
}

unsafe extern "C" fn poll<W: WebRoutes>(task: *mut c_void, raw: &RawWaker) -> u32 {
    let serving = unsafe { &mut *task.cast::<RequestTask>() };
    let served = called::<W, _>(|| {
        #[cfg(feature = "tokio")]
        let _entered = crate::runtime::enter();
        waker::poll_with(raw, |cx| serving.future.as_mut().poll(cx))
    });
    let (kind, message) = match &served {
        Ok(Poll::Pending) => return code::PENDING,
        Ok(Poll::Ready(Ok(()))) => return code::PROCEED,
        Ok(Poll::Ready(Err(error))) => (code::ERROR, error.message()),
        Err(panic) => (code::PANIC, &**panic),
    };
    let view = &serving.view;
    unsafe { view.callbacks.fail()(view.host, kind, message.into()) };
    kind
}

unsafe extern "C" fn end<W: WebRoutes>(task: *mut c_void) {
    report_panicked_end::<W>(called::<W, _>(|| {
        drop(unsafe { Box::from_raw(task.cast::<RequestTask>()) });
    }));
}
