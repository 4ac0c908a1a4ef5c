//! Checks of what plugins ask for, for the callbacks of hooks and of tasks alike. Results are codes of [`edit`].

use plugin_api::abi::edit;
use plugin_contract::field::{MAX_LOG_FIELDS, final_status, is_host_owned, is_log_key, is_text};

use crate::http1::{FieldRefused, check_field};
use crate::reply::PluginReply;

/// A reply with this status line and no fields yet. `None` if the status line is invalid.
pub(super) fn new_reply(status: u32, reason: &str) -> Option<PluginReply> {
    let status = final_status(status).filter(|_| is_text(reason))?;
    Some(PluginReply {
        status,
        reason: reason.to_owned(),
        ..PluginReply::default()
    })
}

/// Adds a field line to a reply that has been begun.
pub(super) fn add_reply_field(reply: Option<&mut PluginReply>, name: &str, value: &[u8]) -> u32 {
    let Some(reply) = reply else {
        return edit::STALE;
    };
    if is_host_owned(name) {
        return edit::HOST_OWNED;
    }
    if let Err(refused) = check_field(name, value) {
        return refusal_code(refused);
    }
    reply.fields.push((name.to_owned(), value.to_owned()));
    edit::OK
}

/// Adds content to a reply that has been begun.
pub(super) fn add_reply_content(reply: Option<&mut PluginReply>, content: &[u8]) -> u32 {
    match reply {
        Some(reply) => {
            reply.body.extend_from_slice(content);
            edit::OK
        }
        None => edit::STALE,
    }
}

/// Adds a field for the access log.
pub(super) fn add_log_field(fields: &mut Vec<(String, String)>, key: &str, value: &str) -> u32 {
    if fields.len() >= MAX_LOG_FIELDS {
        return edit::STALE;
    }
    if !is_log_key(key) {
        return edit::BAD_NAME;
    }
    fields.push((key.to_owned(), value.to_owned()));
    edit::OK
}

pub(super) fn refusal_code(refused: FieldRefused) -> u32 {
    match refused {
        FieldRefused::Name => edit::BAD_NAME,
        FieldRefused::Value => edit::BAD_VALUE,
    }
}
