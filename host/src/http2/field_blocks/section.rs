//! The rules for the fields of a section, a head or trailers (RFC 9113 §8.2, §8.3): which are malformed, and what
//! replaces names and paths that `h2` does not accept.

use std::rc::Rc;

use super::super::frame::PeerRole;
use super::super::hpack::{Name, Value};
use super::super::message::MessageError;

/// A field section, as far as it has been read.
pub(super) struct Section {
    peer: PeerRole,
    is_trailers: bool,
    has_field: bool,
    /// One bit for each pseudo-field that has occurred.
    pseudo: u8,
    pub(super) is_interim: bool,
    pub(super) path: Option<Rc<[u8]>>,
    /// The first reason why it is malformed.
    pub(super) error: Option<MessageError>,
}

impl Section {
    pub(super) fn new(peer: PeerRole, is_trailers: bool) -> Self {
        Self {
            peer,
            is_trailers,
            has_field: false,
            pseudo: 0,
            is_interim: false,
            path: None,
            error: None,
        }
    }

    fn refuse(&mut self, reason: MessageError) {
        self.error.get_or_insert(reason);
    }

    /// Interprets a literal name.
    pub(super) fn read_name(&mut self, name: &[u8]) -> Name {
        if name.iter().any(u8::is_ascii_uppercase) {
            self.refuse(MessageError::NameUpperCase);
            return Name::of(&name.to_ascii_lowercase());
        }
        let name_of = Name::of(name);
        if name_of == Name::Other && !name.iter().all(|byte| is_name_byte(*byte)) {
            self.refuse(MessageError::NameInvalid);
        }
        name_of
    }

    /// Interprets a literal value; also returns what replaces it for `h2`, if anything.
    pub(super) fn read_value(&mut self, name: Name, value: &[u8]) -> (Value, Option<Vec<u8>>) {
        let replaced = |is_taken: fn(u8) -> bool| {
            let shown = |&byte: &u8| if is_taken(byte) { byte } else { b'_' };
            value.iter().map(shown).collect()
        };
        match name {
            Name::Path if !value.iter().all(|byte| is_path_byte(*byte)) => {
                (Value::Path(value.into()), Some(replaced(is_path_byte)))
            }
            Name::Path => (Value::Any, None),
            _ if !value.iter().all(|byte| is_value_byte(*byte)) => {
                self.refuse(MessageError::ValueInvalid);
                (Value::Any, Some(replaced(is_value_byte)))
            }
            Name::Status if value.starts_with(b"1") => (Value::Interim, None),
            Name::Te if value == b"trailers" => (Value::Trailers, None),
            _ => (Value::Any, None),
        }
    }

    pub(super) fn add(&mut self, name: Name, value: &Value) {
        if !name.is_pseudo() {
            self.has_field = true;
            match name {
                Name::Connection => self.refuse(MessageError::ConnectionField),
                Name::Te if *value != Value::Trailers => self.refuse(MessageError::TeInvalid),
                _ => {}
            }
            return;
        }
        let bit = 1 << name as u8;
        let is_of_response = name == Name::Status;
        if self.is_trailers {
            self.refuse(MessageError::PseudoInTrailers);
        } else if name == Name::UnknownPseudo {
            self.refuse(MessageError::PseudoUnknown);
        } else if is_of_response != (self.peer == PeerRole::Server) {
            self.refuse(match is_of_response {
                true => MessageError::PseudoOfResponse,
                false => MessageError::PseudoOfRequest,
            });
        } else if self.has_field {
            self.refuse(MessageError::PseudoLate);
        } else if self.pseudo & bit != 0 {
            self.refuse(MessageError::PseudoRepeated);
        }
        self.pseudo |= bit;
        match value {
            Value::Interim => self.is_interim = true,
            Value::Path(path) => self.path = Some(Rc::clone(path)),
            Value::Any | Value::Trailers => {}
        }
    }

    pub(super) fn end(&mut self, ends_stream: bool) {
        if self.is_trailers && !ends_stream {
            self.refuse(MessageError::TrailersUnended);
        }
        let has_status = self.pseudo & 1 << Name::Status as u8 != 0;
        if self.peer == PeerRole::Server && !self.is_trailers && !has_status {
            self.refuse(MessageError::StatusMissing);
        }
    }
}

/// The name that replaces one for which `h2` would end the connection; of the same length.
pub(super) fn replaced_name(name_of: Name, name: &[u8]) -> Option<Vec<u8>> {
    let is_known = name_of.is_pseudo() && name_of != Name::UnknownPseudo;
    if is_known && !name.iter().any(u8::is_ascii_uppercase)
        || name.iter().all(|byte| is_name_byte(*byte))
    {
        return None;
    }
    let shown = |byte: &u8| match byte.to_ascii_lowercase() {
        b':' if is_known => b':',
        byte if is_name_byte(byte) => byte,
        _ => b'x',
    };
    Some(name.iter().map(shown).collect())
}

/// Whether a byte may stand in a field name (RFC 9113 §8.2.1).
fn is_name_byte(byte: u8) -> bool {
    matches!(byte,
        b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
        | b'0'..=b'9' | b'a'..=b'z')
}

/// Whether a byte may stand in a field value.
fn is_value_byte(byte: u8) -> bool {
    byte >= b' ' && byte != 0x7f || byte == b'\t'
}

/// Whether `h2` accepts a byte anywhere in a path and its query, and does not change it.
pub(super) fn is_path_byte(byte: u8) -> bool {
    matches!(byte, b'!' | b'$'..=b';' | b'=' | b'?'..=b'_' | b'a'..=b'~')
}
