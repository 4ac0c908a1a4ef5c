//! Names and values that messages, replies and log lines may contain, and the fields that only the proxy writes.

/// The fields that only the proxy writes: framing fields, Host, and connection-specific fields. In lower case.
pub const HOST_OWNED: [&str; 10] = [
    "connection",
    "content-length",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// The maximum number of fields that plugins may add to the log line of an exchange.
pub const MAX_LOG_FIELDS: usize = 64;

/// The maximum number of addresses that plugins may set for the upstream of an exchange.
pub const MAX_ADDRESSES: usize = 64;

/// Whether only the proxy writes the field of this name: it concerns framing, the host, or a single connection. Edits
/// of such fields are rejected.
///
/// ```
/// # use plugin_contract as plugin_api;
/// use plugin_api::is_host_owned;
///
/// assert!(is_host_owned("Content-Length") && !is_host_owned("Content-Type"));
/// ```
pub fn is_host_owned(name: &str) -> bool {
    HOST_OWNED
        .iter()
        .any(|owned| owned.eq_ignore_ascii_case(name))
}

/// Whether a text is a token, like the names of fields and methods (RFC 9110 §5.6.2).
///
/// ```
/// # use plugin_contract as plugin_api;
/// use plugin_api::is_token;
///
/// assert!(is_token("X-Name") && !is_token("X Name") && !is_token(""));
/// ```
#[inline]
pub fn is_token(text: impl AsRef<[u8]>) -> bool {
    let text = text.as_ref();
    !text.is_empty() && text.iter().all(|&byte| is_token_byte(byte))
}

/// Whether a token may contain `byte`.
#[inline]
pub const fn is_token_byte(byte: u8) -> bool {
    TOKEN_BYTES[byte as usize]
}

/// Whether a text is a valid field value (RFC 9110 §5.5): no control characters except tabs, and no space at either
/// end. May be empty.
///
/// ```
/// # use plugin_contract as plugin_api;
/// use plugin_api::is_field_value;
///
/// assert!(is_field_value("a b") && !is_field_value(" a") && !is_field_value("a\r\nb: c"));
/// ```
#[inline]
pub fn is_field_value(value: impl AsRef<[u8]>) -> bool {
    let value = value.as_ref();
    is_text(value) && value.trim_ascii().len() == value.len()
}

/// Whether a text contains no control characters except tabs, so that it cannot end its line. Reason phrases must be
/// such texts.
#[inline]
pub fn is_text(text: impl AsRef<[u8]>) -> bool {
    let may_stand = |&byte: &u8| byte == b'\t' || (byte >= b' ' && byte != 0x7f);
    text.as_ref().iter().all(may_stand)
}

/// Whether a text is a valid user name: no control characters.
pub fn is_user_name(name: &str) -> bool {
    !name.chars().any(char::is_control)
}

/// Whether a text is a valid key for a log field: visible ASCII characters without `=`.
pub fn is_log_key(key: &str) -> bool {
    let may_stand = |byte: u8| byte.is_ascii_graphic() && byte != b'=';
    !key.is_empty() && key.bytes().all(may_stand)
}

/// The status of a final response, from 200 to 599.
pub fn final_status(status: u32) -> Option<u16> {
    u16::try_from(status)
        .ok()
        .filter(|status| (200..=599).contains(status))
}

/// Whether a response of this status has content. An edit may not change that, because the framing of the body is fixed
/// (RFC 9112 §6.3).
pub fn has_content(status: u16) -> bool {
    !matches!(status, 204 | 304)
}

const TOKEN_BYTES: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let marks = b"!#$%&'*+-.^_`|~";
    let mut mark = 0;
    while mark < marks.len() {
        table[marks[mark] as usize] = true;
        mark += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_no_separators() {
        for token in ["GET", "X-A", "!#$%&'*+-.^_`|~", "0"] {
            assert!(is_token(token), "{token}");
        }
        for text in ["", "a b", "a:", "(", "a\t", "\u{fc}", "a/b", "\x7f"] {
            assert!(!is_token(text), "{text:?}");
        }
    }

    #[test]
    fn a_field_value_cannot_end_its_line() {
        for value in [&b""[..], b"a", b"a\tb c", b"\xff\x80"] {
            assert!(is_field_value(value), "{value:?}");
        }
        for value in [
            &b" a"[..],
            b"a ",
            b"\ta",
            b"a\0",
            b"a\r\nb: c",
            b"\x7f",
            b"\x1b",
        ] {
            assert!(!is_field_value(value), "{value:?}");
        }
        assert!(is_text(" ") && !is_text("\n"));
    }

    #[test]
    fn host_owned_fields_are_recognised_in_any_case() {
        for name in HOST_OWNED {
            assert!(is_token(name) && is_host_owned(&name.to_ascii_uppercase()));
        }
        for name in ["", "content-type", "via", "te2"] {
            assert!(!is_host_owned(name), "{name}");
        }
    }

    #[test]
    fn a_log_key_is_a_single_word() {
        assert!(is_log_key("a.b-c"));
        for key in ["", "a b", "a=b", "a\n", "\u{fc}"] {
            assert!(!is_log_key(key), "{key:?}");
        }
    }

    #[test]
    fn a_final_status_is_not_interim() {
        for (number, status) in [
            (199, None),
            (200, Some(200)),
            (599, Some(599)),
            (600, None),
            (65736, None),
        ] {
            assert_eq!(final_status(number), status);
        }
    }
}
