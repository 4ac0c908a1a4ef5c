//! A field section: lines in received order and spelling, with repeats, names compared case-insensitively (RFC 9110
//! §5).
//!
//! A line consists of two spans into its head's text and a [`FieldId`], which is determined once, so that looking for a
//! field that the proxy uses compares small numbers. Edits append new text. The meaning of fields is decided elsewhere
//! (`framing`, `forward`); only names and values are checked here.

use plugin_contract::field::{is_field_value, is_token};
use thiserror::Error;

/// A part of a head's text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Offset of the first byte.
    pub start: u32,
    /// Number of bytes.
    pub len: u32,
}

impl Span {
    /// The span from `start` to `end`; the caller guarantees that the text is shorter than 4 GiB.
    pub(crate) fn between(start: usize, end: usize) -> Self {
        debug_assert!(start <= end && end <= u32::MAX as usize);
        Self {
            start: start as u32,
            len: (end - start) as u32,
        }
    }

    /// The bytes in `text`.
    pub(crate) fn of(self, text: &[u8]) -> &[u8] {
        let start = self.start as usize;
        &text[start..start + self.len as usize]
    }

    /// The bytes in `text`, which were known to be ASCII when the span was made.
    pub(crate) fn str_of(self, text: &[u8]) -> &str {
        let bytes = self.of(text);
        debug_assert!(bytes.is_ascii());
        str::from_utf8(bytes).unwrap_or_default()
    }

    pub(crate) fn is_empty(self) -> bool {
        self.len == 0
    }
}

/// The fields that the proxy reads or rewrites; all others are `Other`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(
    missing_docs,
    reason = "each variant is the field of that name (RFC 9110 §18.4)"
)]
pub enum FieldId {
    Other,
    Host,
    Connection,
    KeepAlive,
    ProxyConnection,
    ProxyAuthorization,
    ProxyAuthenticate,
    Te,
    Trailer,
    TransferEncoding,
    Upgrade,
    ContentLength,
    Via,
    MaxForwards,
    Expect,
    Date,
    Http2Settings,
}

impl FieldId {
    /// The id of the field called `name`, in any case.
    pub fn of(name: &[u8]) -> Self {
        let candidates: &[(&[u8], Self)] = match name.len() {
            2 => &[(b"te", Self::Te)],
            3 => &[(b"via", Self::Via)],
            4 => &[(b"host", Self::Host), (b"date", Self::Date)],
            6 => &[(b"expect", Self::Expect)],
            7 => &[(b"trailer", Self::Trailer), (b"upgrade", Self::Upgrade)],
            10 => &[
                (b"connection", Self::Connection),
                (b"keep-alive", Self::KeepAlive),
            ],
            12 => &[(b"max-forwards", Self::MaxForwards)],
            14 => &[
                (b"content-length", Self::ContentLength),
                (b"http2-settings", Self::Http2Settings),
            ],
            16 => &[(b"proxy-connection", Self::ProxyConnection)],
            17 => &[(b"transfer-encoding", Self::TransferEncoding)],
            18 => &[(b"proxy-authenticate", Self::ProxyAuthenticate)],
            19 => &[(b"proxy-authorization", Self::ProxyAuthorization)],
            _ => &[],
        };
        candidates
            .iter()
            .find(|(candidate, _)| name.eq_ignore_ascii_case(candidate))
            .map_or(Self::Other, |&(_, id)| id)
    }
}

/// A field line of a head or trailer section: the positions of name and value, and the field's id.
#[derive(Clone, Copy, Debug)]
pub struct FieldLine {
    name: Span,
    value: Span,
    id: FieldId,
}

impl FieldLine {
    /// A line with this name and value, which are already checked.
    pub(crate) fn new(text: &[u8], name: Span, value: Span) -> Self {
        let id = FieldId::of(name.of(text));
        Self { name, value, id }
    }

    pub(crate) fn id(&self) -> FieldId {
        self.id
    }

    pub(crate) fn value(&self) -> Span {
        self.value
    }

    fn is_named(&self, text: &[u8], id: FieldId, name: &str) -> bool {
        self.id == id && (id != FieldId::Other || self.has_name(text, name))
    }

    fn has_name(&self, text: &[u8], name: &str) -> bool {
        self.name.of(text).eq_ignore_ascii_case(name.as_bytes())
    }
}

/// A field line with its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldView<'a> {
    /// The field's id.
    pub id: FieldId,
    /// The name as received, a token.
    pub name: &'a [u8],
    /// The value without surrounding whitespace; never contains CR, LF or NUL.
    pub value: &'a [u8],
}

/// A field section for reading.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a> {
    text: &'a [u8],
    lines: &'a [FieldLine],
}

/// The options in the Connection field (RFC 9110 §7.6.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionOptions {
    /// `close`: the connection ends after this exchange.
    pub close: bool,
    /// `keep-alive`: an HTTP/1.0 peer requests a persistent connection.
    pub keep_alive: bool,
    /// `upgrade`: the Upgrade field is for this hop.
    pub upgrade: bool,
    /// `te`: the TE field is for this hop.
    pub te: bool,
    /// Other options: names of fields that are for this hop only.
    pub nominates: bool,
}

impl<'a> Fields<'a> {
    pub(crate) fn new(text: &'a [u8], lines: &'a [FieldLine]) -> Self {
        Self { text, lines }
    }

    /// The name and value of every line, in order.
    pub fn iter(self) -> impl Iterator<Item = (&'a str, &'a [u8])> + use<'a> {
        self.lines
            .iter()
            .map(move |line| (line.name.str_of(self.text), line.value.of(self.text)))
    }

    /// Every line with its id, in order.
    pub fn lines(self) -> impl ExactSizeIterator<Item = FieldView<'a>> + use<'a> {
        self.lines.iter().map(move |line| FieldView {
            id: line.id,
            name: line.name.of(self.text),
            value: line.value.of(self.text),
        })
    }

    /// The value of the first line of this field.
    pub fn first(self, id: FieldId) -> Option<&'a [u8]> {
        self.all(id).next()
    }

    /// The values of all lines of this field.
    pub fn all(self, id: FieldId) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.lines
            .iter()
            .filter(move |line| line.id == id)
            .map(move |line| line.value.of(self.text))
    }

    /// The values of all lines called `name`, in any case.
    pub fn named<'n>(self, name: &'n str) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        let id = FieldId::of(name.as_bytes());
        self.lines
            .iter()
            .filter(move |line| line.is_named(self.text, id, name))
            .map(move |line| line.value.of(self.text))
    }

    /// The members of a list field over all its lines; empty members are skipped (RFC 9110 §5.6.1.2).
    pub fn members(self, id: FieldId) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.raw_members(id).filter(|member| !member.is_empty())
    }

    /// Like [`members`](Self::members) with empty ones, for fields where they are an error.
    pub(crate) fn raw_members(self, id: FieldId) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.all(id)
            .flat_map(|value| value.split(|&byte| byte == b','))
            .map(<[u8]>::trim_ascii)
    }

    /// Number of lines.
    pub fn len(self) -> usize {
        self.lines.len()
    }

    /// Whether there are no lines.
    pub fn is_empty(self) -> bool {
        self.lines.is_empty()
    }

    /// Whether there is a line of this field.
    pub fn has(self, id: FieldId) -> bool {
        self.lines.iter().any(|line| line.id == id)
    }

    /// The index of the first line of this field.
    pub(crate) fn first_index(self, id: FieldId) -> Option<usize> {
        self.lines.iter().position(|line| line.id == id)
    }

    /// The index of the last line of this field.
    pub(crate) fn last_index(self, id: FieldId) -> Option<usize> {
        self.lines.iter().rposition(|line| line.id == id)
    }

    /// The options of the Connection field.
    pub fn connection_options(self) -> ConnectionOptions {
        let mut options = ConnectionOptions::default();
        if !self.has(FieldId::Connection) {
            return options;
        }
        for member in self.members(FieldId::Connection) {
            let known = match member.len() {
                5 if member.eq_ignore_ascii_case(b"close") => &mut options.close,
                10 if member.eq_ignore_ascii_case(b"keep-alive") => &mut options.keep_alive,
                7 if member.eq_ignore_ascii_case(b"upgrade") => &mut options.upgrade,
                2 if member.eq_ignore_ascii_case(b"te") => &mut options.te,
                _ => &mut options.nominates,
            };
            *known = true;
        }
        options
    }
}

/// Why an edit of a field section was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FieldRefused {
    /// The name is not a token (RFC 9110 §5.1).
    #[error("the field name is not a token")]
    Name,
    /// The value contains a control character or begins or ends with whitespace (RFC 9110 §5.5), or the head would
    /// exceed 4 GiB.
    #[error("the field value contains a control character or begins or ends with white space")]
    Value,
}

/// A field section for editing. A failed edit does not change it.
#[derive(Debug)]
pub struct FieldsMut<'a> {
    text: &'a mut Vec<u8>,
    lines: &'a mut Vec<FieldLine>,
}

impl<'a> FieldsMut<'a> {
    pub(crate) fn new(text: &'a mut Vec<u8>, lines: &'a mut Vec<FieldLine>) -> Self {
        Self { text, lines }
    }

    /// The section for reading.
    pub fn view(&self) -> Fields<'_> {
        Fields::new(self.text, self.lines)
    }

    /// Removes the fields that Connection names for this hop, together with their names in Connection, so that it does
    /// not affect fields that are added later. Via remains, as it does when a head is forwarded.
    pub fn settle_connection(&mut self) {
        if !self.view().connection_options().nominates {
            return;
        }
        let members: Vec<Vec<u8>> = self
            .view()
            .members(FieldId::Connection)
            .map(<[u8]>::to_vec)
            .collect();
        let is_known = |member: &Vec<u8>| {
            ["close", "keep-alive", "upgrade", "te", "http2-settings"]
                .iter()
                .any(|known| member.eq_ignore_ascii_case(known.as_bytes()))
        };
        let (kept, nominated): (Vec<_>, Vec<_>) = members.into_iter().partition(is_known);
        for name in &nominated {
            let may_go = matches!(
                FieldId::of(name),
                FieldId::Other | FieldId::Date | FieldId::Expect | FieldId::MaxForwards
            );
            if let (true, Ok(name)) = (may_go, std::str::from_utf8(name)) {
                self.remove(name);
            }
        }
        if kept.is_empty() {
            self.remove("connection");
        } else {
            // Members of a received value form a valid value.
            let _ = self.set("Connection", &kept.join(&b", "[..]));
        }
    }

    /// Sets the field to this single value, at the position of its first line or else at the end; removes repeats.
    ///
    /// # Errors
    /// Name or value are invalid.
    pub fn set(&mut self, name: &str, value: &[u8]) -> Result<(), FieldRefused> {
        self.check(name, value)?;
        let id = FieldId::of(name.as_bytes());
        let text = &*self.text;
        let mut same = (0..self.lines.len()).filter(|&at| self.lines[at].is_named(text, id, name));
        let Some(first) = same.next() else {
            self.push(name, value);
            return Ok(());
        };
        if same.next().is_some() {
            self.remove_after(first, id, name);
        }
        self.lines[first].value = push_text(self.text, value);
        Ok(())
    }

    /// Adds a line at the end.
    ///
    /// # Errors
    /// Name or value are invalid.
    pub fn append(&mut self, name: &str, value: &[u8]) -> Result<(), FieldRefused> {
        self.check(name, value)?;
        self.push(name, value);
        Ok(())
    }

    /// Removes all lines called `name`; returns their number.
    pub fn remove(&mut self, name: &str) -> usize {
        let before = self.lines.len();
        let id = FieldId::of(name.as_bytes());
        let text = &*self.text;
        self.lines.retain(|line| !line.is_named(text, id, name));
        before - self.lines.len()
    }

    fn remove_after(&mut self, first: usize, id: FieldId, name: &str) {
        let text = &*self.text;
        let mut index = 0;
        self.lines.retain(|line| {
            index += 1;
            index - 1 <= first || !line.is_named(text, id, name)
        });
    }

    fn push(&mut self, name: &str, value: &[u8]) {
        let name = push_text(self.text, name.as_bytes());
        let value = push_text(self.text, value);
        self.lines.push(FieldLine::new(self.text, name, value));
    }

    fn check(&self, name: &str, value: &[u8]) -> Result<(), FieldRefused> {
        if !is_token(name) {
            return Err(FieldRefused::Name);
        }
        let grown = self.text.len() as u64 + name.len() as u64 + value.len() as u64;
        if !is_field_value(value) || grown > u64::from(u32::MAX) {
            return Err(FieldRefused::Value);
        }
        Ok(())
    }
}

/// Appends `bytes` to the text; the caller guarantees that they fit.
pub(crate) fn push_text(text: &mut Vec<u8>, bytes: &[u8]) -> Span {
    let start = text.len();
    text.extend_from_slice(bytes);
    Span::between(start, text.len())
}

/// Checks a field before it is sent.
///
/// # Errors
/// What is wrong with it.
pub fn check_field(name: &str, value: &[u8]) -> Result<(), FieldRefused> {
    if !is_token(name) {
        return Err(FieldRefused::Name);
    }
    if !is_field_value(value) {
        return Err(FieldRefused::Value);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(lines: &[(&str, &[u8])]) -> (Vec<u8>, Vec<FieldLine>) {
        let (mut text, mut parsed) = (Vec::new(), Vec::new());
        for (name, value) in lines {
            FieldsMut::new(&mut text, &mut parsed)
                .append(name, value)
                .unwrap();
        }
        (text, parsed)
    }

    fn shown(text: &[u8], lines: &[FieldLine]) -> Vec<String> {
        let fields = Fields::new(text, lines);
        let show = |(name, value)| format!("{name}={}", String::from_utf8_lossy(value));
        fields.iter().map(show).collect()
    }

    #[test]
    fn names_are_classified_without_case() {
        for (name, id) in [
            ("HOST", FieldId::Host),
            ("cOnnection", FieldId::Connection),
            ("Transfer-Encoding", FieldId::TransferEncoding),
            ("http2-settings", FieldId::Http2Settings),
            ("Hosts", FieldId::Other),
            ("Hast", FieldId::Other),
            ("", FieldId::Other),
        ] {
            assert_eq!(FieldId::of(name.as_bytes()), id, "{name}");
        }
    }

    #[test]
    fn set_replaces_the_first_line_in_place_and_removes_repeats() {
        let (mut text, mut lines) =
            section(&[("A", b"1"), ("X-Y", b"2"), ("B", b"3"), ("x-y", b"4")]);
        FieldsMut::new(&mut text, &mut lines)
            .set("x-Y", b"new")
            .unwrap();
        assert_eq!(shown(&text, &lines), ["A=1", "X-Y=new", "B=3"]);
    }

    #[test]
    fn set_appends_what_is_not_there() {
        let (mut text, mut lines) = section(&[("A", b"1")]);
        FieldsMut::new(&mut text, &mut lines).set("B", b"").unwrap();
        assert_eq!(shown(&text, &lines), ["A=1", "B="]);
    }

    #[test]
    fn remove_takes_every_line_of_the_name() {
        let (mut text, mut lines) = section(&[("Via", b"1"), ("B", b"2"), ("VIA", b"3")]);
        assert_eq!(FieldsMut::new(&mut text, &mut lines).remove("via"), 2);
        assert_eq!(shown(&text, &lines), ["B=2"]);
    }

    #[test]
    fn refuses_names_and_values_that_would_break_the_line() {
        let (mut text, mut lines) = section(&[]);
        let mut fields = FieldsMut::new(&mut text, &mut lines);
        for name in ["", "a b", "a:", "a\r\n", "\u{e9}"] {
            assert_eq!(fields.set(name, b"v"), Err(FieldRefused::Name), "{name:?}");
        }
        for value in [
            &b"a\r\nb"[..],
            b"a\nb",
            b"a\rb",
            b"a\0",
            b" a",
            b"a ",
            b"a\t",
            b"\x7f",
        ] {
            assert_eq!(fields.append("n", value), Err(FieldRefused::Value));
        }
        assert_eq!(fields.append("n", b"a\tb \xff"), Ok(()));
        assert_eq!(fields.view().len(), 1);
    }

    #[test]
    fn members_join_lines_and_skip_empty_ones() {
        let (text, lines) = section(&[("TE", b"a ,,\tb"), ("x", b"no"), ("te", b", c")]);
        let fields = Fields::new(&text, &lines);
        let members: Vec<_> = fields.members(FieldId::Te).collect();
        assert_eq!(members, [b"a", b"b", b"c"]);
        assert_eq!(fields.raw_members(FieldId::Te).count(), 5);
    }

    #[test]
    fn connection_options_are_found_over_all_lines() {
        let (text, lines) = section(&[("Connection", b"Close, x-a"), ("connection", b"TE")]);
        let options = Fields::new(&text, &lines).connection_options();
        let expected = ConnectionOptions {
            close: true,
            te: true,
            nominates: true,
            ..ConnectionOptions::default()
        };
        assert_eq!(options, expected);
    }
}
