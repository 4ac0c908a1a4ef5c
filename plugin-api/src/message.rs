//! Reading and editing the two heads of an exchange.
//!
//! Reading uses memory that the host has filled, without a call; every edit is a call that copies. The borrow checker
//! separates the two: a value read from a head cannot be held across an edit.
#![expect(unsafe_code, reason = "reads the host's views and calls its callbacks")]

use crate::abi::{
    Address, BodyMode, ExchangeCallbacksRef, FieldSlot, RequestView, ResponseView, head,
};
use crate::{EditError, field_name};
use core::ffi::c_void;
use std::marker::PhantomData;

/// The head of the request, with the edits so far.
#[derive(Clone, Copy)]
pub struct Request<'x> {
    pub(crate) view: &'x RequestView,
}

impl<'x> Request<'x> {
    /// The method, such as `GET`; case-sensitive.
    pub fn method(&self) -> &'x str {
        self.view.method.as_str()
    }

    /// The request target as the client sent it.
    pub fn target(&self) -> &'x str {
        self.view.target.as_str()
    }

    /// `http` or `https`; empty for CONNECT.
    pub fn scheme(&self) -> &'x str {
        self.view.scheme.as_str()
    }

    /// The host of the target, in its canonical form: see [`canonical_host`](crate::canonical_host).
    pub fn host(&self) -> &'x str {
        self.view.host.as_str()
    }

    /// The port of the target, or the default port of its scheme.
    pub fn port(&self) -> u16 {
        self.view.port as u16
    }

    /// Path and query as sent to the origin.
    pub fn path(&self) -> &'x str {
        self.view.path.as_str()
    }

    /// Major version times ten plus minor: 10, 11 or 20.
    pub fn version(&self) -> u32 {
        self.view.version
    }

    /// The value of the first field of this name, which is case-insensitive.
    #[inline]
    pub fn field(&self, name: &str) -> Option<&'x [u8]> {
        // SAFETY: the view is borrowed for `'x`.
        find(
            unsafe { slots(self.view.fields, self.view.field_count) },
            name,
        )
    }

    /// [`field`](Self::field) as text; none if it is not UTF-8.
    pub fn field_str(&self, name: &str) -> Option<&'x str> {
        self.field(name)
            .and_then(|value| std::str::from_utf8(value).ok())
    }

    /// All field lines in order.
    pub fn fields(&self) -> impl Iterator<Item = (&'x str, &'x [u8])> + use<'x> {
        // SAFETY: the view is borrowed for `'x`.
        pairs(unsafe { slots(self.view.fields, self.view.field_count) })
    }
}

/// The head of the final response, with the edits so far.
#[derive(Clone, Copy)]
pub struct Response<'x> {
    pub(crate) view: &'x ResponseView,
}

impl<'x> Response<'x> {
    /// The status code.
    pub fn status(&self) -> u16 {
        self.view.status as u16
    }

    /// The reason phrase, possibly empty.
    pub fn reason(&self) -> &'x str {
        self.view.reason.as_str()
    }

    /// Major version times ten plus minor: 10, 11 or 20.
    pub fn version(&self) -> u32 {
        self.view.version
    }

    /// The value of the first field of this name, which is case-insensitive.
    #[inline]
    pub fn field(&self, name: &str) -> Option<&'x [u8]> {
        // SAFETY: the view is borrowed for `'x`.
        find(
            unsafe { slots(self.view.fields, self.view.field_count) },
            name,
        )
    }

    /// [`field`](Self::field) as text; none if it is not UTF-8.
    pub fn field_str(&self, name: &str) -> Option<&'x str> {
        self.field(name)
            .and_then(|value| std::str::from_utf8(value).ok())
    }

    /// All field lines in order.
    pub fn fields(&self) -> impl Iterator<Item = (&'x str, &'x [u8])> + use<'x> {
        // SAFETY: the view is borrowed for `'x`.
        pairs(unsafe { slots(self.view.fields, self.view.field_count) })
    }
}

/// Access for editing the request.
pub struct RequestMut<'x> {
    pub(crate) editor: Editor<'x>,
}

impl RequestMut<'_> {
    /// Replaces all fields of this name by one with this value.
    ///
    /// # Errors
    /// The proxy rejects the edit, and nothing is changed. This applies to every edit.
    pub fn set(&mut self, name: &str, value: impl AsRef<[u8]>) -> Result<(), EditError> {
        self.editor.set_field(head::REQUEST, name, value.as_ref())
    }

    /// Adds a field line after the others.
    ///
    /// # Errors
    /// See [`set`](Self::set).
    pub fn append(&mut self, name: &str, value: impl AsRef<[u8]>) -> Result<(), EditError> {
        self.editor
            .append_field(head::REQUEST, name, value.as_ref())
    }

    /// Removes all fields of this name, if there are any.
    ///
    /// # Errors
    /// See [`set`](Self::set).
    pub fn remove(&mut self, name: &str) -> Result<(), EditError> {
        self.editor.remove_field(head::REQUEST, name)
    }

    /// Changes path and query; begins with a slash.
    ///
    /// # Errors
    /// See [`set`](Self::set).
    pub fn set_path(&mut self, path: &str) -> Result<(), EditError> {
        self.editor.set_path(path)
    }
}

/// Access for editing the response.
pub struct ResponseMut<'x> {
    pub(crate) editor: Editor<'x>,
}

impl ResponseMut<'_> {
    /// Replaces all fields of this name by one with this value.
    ///
    /// # Errors
    /// The proxy rejects the edit, and nothing is changed. This applies to every edit.
    pub fn set(&mut self, name: &str, value: impl AsRef<[u8]>) -> Result<(), EditError> {
        self.editor.set_field(head::RESPONSE, name, value.as_ref())
    }

    /// Adds a field line after the others.
    ///
    /// # Errors
    /// See [`set`](Self::set).
    pub fn append(&mut self, name: &str, value: impl AsRef<[u8]>) -> Result<(), EditError> {
        self.editor
            .append_field(head::RESPONSE, name, value.as_ref())
    }

    /// Removes all fields of this name, if there are any.
    ///
    /// # Errors
    /// See [`set`](Self::set).
    pub fn remove(&mut self, name: &str) -> Result<(), EditError> {
        self.editor.remove_field(head::RESPONSE, name)
    }

    /// Changes the status code and the reason phrase.
    ///
    /// # Errors
    /// See [`set`](Self::set). A status with content cannot become 204 or 304, or the reverse, because the framing of
    /// the body is fixed.
    pub fn set_status(&mut self, status: u16, reason: &str) -> Result<(), EditError> {
        self.editor.set_status(status, reason)
    }
}

/// The trailer section of a message, with the edits so far.
#[derive(Clone, Copy)]
pub struct Trailers<'x> {
    pub(crate) first: *const FieldSlot,
    pub(crate) count: usize,
    pub(crate) _view: PhantomData<&'x FieldSlot>,
}

impl<'x> Trailers<'x> {
    /// The value of the first field of this name, which is case-insensitive.
    #[inline]
    pub fn field(&self, name: &str) -> Option<&'x [u8]> {
        // SAFETY: taken from a view that is borrowed for `'x`.
        find(unsafe { slots(self.first, self.count) }, name)
    }

    /// All field lines in order.
    pub fn fields(&self) -> impl Iterator<Item = (&'x str, &'x [u8])> + use<'x> {
        // SAFETY: taken from a view that is borrowed for `'x`.
        pairs(unsafe { slots(self.first, self.count) })
    }
}

/// Access for editing trailers.
pub struct TrailersMut<'x> {
    pub(crate) editor: Editor<'x>,
}

impl TrailersMut<'_> {
    /// Replaces all fields of this name by one with this value.
    ///
    /// # Errors
    /// The proxy rejects the edit, and nothing is changed.
    pub fn set(&mut self, name: &str, value: impl AsRef<[u8]>) -> Result<(), EditError> {
        self.editor.set_field(head::TRAILERS, name, value.as_ref())
    }

    /// Removes all fields of this name, if there are any.
    ///
    /// # Errors
    /// See [`set`](Self::set).
    pub fn remove(&mut self, name: &str) -> Result<(), EditError> {
        self.editor.remove_field(head::TRAILERS, name)
    }
}

/// The callbacks of an exchange, with their handle.
pub(crate) struct Editor<'x> {
    host: *mut c_void,
    callbacks: ExchangeCallbacksRef,
    _exchange: PhantomData<&'x mut ()>,
}

// SAFETY, for all calls below: `Editor::new` requires a handle that is valid for as long as the editor lives, and the
// callbacks copy their arguments.
impl Editor<'_> {
    /// # Safety
    /// `host` must be a handle that the callbacks accept for as long as the editor lives.
    pub(crate) unsafe fn new(host: *mut c_void, callbacks: ExchangeCallbacksRef) -> Self {
        Self {
            host,
            callbacks,
            _exchange: PhantomData,
        }
    }

    fn set_field(&mut self, head: u32, name: &str, value: &[u8]) -> Result<(), EditError> {
        let set_field = self.callbacks.set_field();
        EditError::check(unsafe { set_field(self.host, head, name.into(), value.into()) })
    }

    fn append_field(&mut self, head: u32, name: &str, value: &[u8]) -> Result<(), EditError> {
        let append_field = self.callbacks.append_field();
        EditError::check(unsafe { append_field(self.host, head, name.into(), value.into()) })
    }

    fn remove_field(&mut self, head: u32, name: &str) -> Result<(), EditError> {
        let remove_field = self.callbacks.remove_field();
        EditError::check(unsafe { remove_field(self.host, head, name.into()) })
    }

    fn set_path(&mut self, path: &str) -> Result<(), EditError> {
        EditError::check(unsafe { self.callbacks.set_path()(self.host, path.into()) })
    }

    fn set_status(&mut self, status: u16, reason: &str) -> Result<(), EditError> {
        let set_status = self.callbacks.set_status();
        EditError::check(unsafe { set_status(self.host, status.into(), reason.into()) })
    }

    pub(crate) fn set_method(&mut self, method: &str) -> Result<(), EditError> {
        let set_method = self.callbacks.set_method().ok_or(EditError::Unknown)?;
        EditError::check(unsafe { set_method(self.host, method.into()) })
    }

    pub(crate) fn set_host(&mut self, host: &str, port: u16) -> Result<(), EditError> {
        let set_host = self.callbacks.set_host().ok_or(EditError::Unknown)?;
        EditError::check(unsafe { set_host(self.host, host.into(), port.into()) })
    }

    pub(crate) fn set_upstream(&mut self, host: &str, port: u16) -> Result<(), EditError> {
        let set_upstream = self.callbacks.set_upstream();
        EditError::check(unsafe { set_upstream(self.host, host.into(), port.into()) })
    }

    pub(crate) fn set_upstream_scheme(&mut self, scheme: &str) -> Result<(), EditError> {
        let set_scheme = self.callbacks.set_upstream_scheme();
        EditError::check(unsafe { set_scheme(self.host, scheme.into()) })
    }

    pub(crate) fn set_parent(&mut self, url: &str) -> Result<(), EditError> {
        EditError::check(unsafe { self.callbacks.set_parent()(self.host, url.into()) })
    }

    pub(crate) fn add_address(&mut self, address: &Address) -> Result<(), EditError> {
        EditError::check(unsafe { self.callbacks.add_address()(self.host, address) })
    }

    pub(crate) fn set_source_address(&mut self, address: &Address) -> Result<(), EditError> {
        EditError::check(unsafe { self.callbacks.set_source_address()(self.host, address) })
    }

    pub(crate) fn set_user(&mut self, name: &str) -> Result<(), EditError> {
        EditError::check(unsafe { self.callbacks.set_user()(self.host, name.into()) })
    }

    pub(crate) fn set_body_mode(&mut self, which: u32, mode: &BodyMode) -> Result<(), EditError> {
        EditError::check(unsafe { self.callbacks.set_body_mode()(self.host, which, mode) })
    }

    pub(crate) fn set_body(&mut self, content: &[u8]) -> Result<(), EditError> {
        EditError::check(unsafe { self.callbacks.set_body()(self.host, content.into()) })
    }

    pub(crate) fn reply(&mut self, status: u16, reason: &str) -> Result<(), EditError> {
        let reply = self.callbacks.reply();
        EditError::check(unsafe { reply(self.host, status.into(), reason.into()) })
    }

    pub(crate) fn reply_field(&mut self, name: &str, value: &[u8]) -> Result<(), EditError> {
        let reply_field = self.callbacks.reply_field();
        EditError::check(unsafe { reply_field(self.host, name.into(), value.into()) })
    }

    pub(crate) fn reply_body(&mut self, content: &[u8]) -> Result<(), EditError> {
        EditError::check(unsafe { self.callbacks.reply_body()(self.host, content.into()) })
    }

    pub(crate) fn emit_chunk(&mut self, content: &[u8]) -> Result<(), EditError> {
        EditError::check(unsafe { self.callbacks.emit_chunk()(self.host, content.into()) })
    }

    pub(crate) fn send_message(
        &mut self,
        to: u32,
        kind: u32,
        data: &[u8],
    ) -> Result<(), EditError> {
        let send_message = self.callbacks.send_message();
        EditError::check(unsafe { send_message(self.host, to, kind, data.into()) })
    }

    pub(crate) fn add_log_field(&mut self, key: &str, value: &str) -> Result<(), EditError> {
        let add_log_field = self.callbacks.add_log_field();
        EditError::check(unsafe { add_log_field(self.host, key.into(), value.into()) })
    }

    pub(crate) fn holds(&self, fact: u32) -> bool {
        let holds = self.callbacks.holds();
        holds.is_some_and(|holds| unsafe { holds(self.host, fact) } == 1)
    }

    pub(crate) fn fail(&mut self, kind: u32, message: &str) {
        unsafe { self.callbacks.fail()(self.host, kind, message.into()) }
    }
}

/// The slots of a view.
///
/// # Safety
/// `first` and `count` come from a view of the host's, which may be read for `'x`.
unsafe fn slots<'x>(first: *const FieldSlot, count: usize) -> &'x [FieldSlot] {
    if count == 0 {
        return &[];
    }
    // SAFETY: the host keeps `count` slots behind a view for as long as that may be read.
    unsafe { std::slice::from_raw_parts(first, count) }
}

fn pairs<'x>(slots: &'x [FieldSlot]) -> impl Iterator<Item = (&'x str, &'x [u8])> + use<'x> {
    slots
        .iter()
        .map(|slot| (slot.name.as_str(), slot.value.as_slice()))
}

fn find<'x>(slots: &'x [FieldSlot], name: &str) -> Option<&'x [u8]> {
    let is_named = |slot: &&FieldSlot| field_name::is_same(slot.name.as_str(), name);
    slots
        .iter()
        .find(is_named)
        .map(|slot| slot.value.as_slice())
}
