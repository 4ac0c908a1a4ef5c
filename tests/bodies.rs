//! Bodies edited by plugins arrive byte for byte, and incomplete bodies are visibly incomplete.
//!
//! One proxy runs three editors. Fields of the request tell each editor what to do, so that all tests use the same
//! plugins. The expected content is computed here independently. Each file below covers one question: are the edits
//! exact, is the framing right, and so on.

mod breaks;
mod coded;
mod edits;
mod framing;
mod invitations;
mod large;
mod limits;
mod trailers;
mod wholes;

use crate::support::{Origin, Proxy, ProxyCommand, pattern};

/// A proxy with the editors `A`, `B` and `C`, in this order.
fn editors() -> ProxyCommand {
    Proxy::command()
        .plugin("zoo", "Edit")
        .plugin("zoo", "EditB")
        .plugin("zoo", "EditC")
        .plugin_config("Edit.label=\"A\"")
        .plugin_config("EditB.label=\"B\"")
        .plugin_config("EditC.label=\"C\"")
}

/// Field lines with the editors' orders; an editor without orders skips the exchange.
fn orders(chain: &[&str]) -> String {
    let labels = ["A", "B", "C"].into_iter().zip(chain);
    labels
        .map(|(label, orders)| format!("X-{label}: {orders}\r\n"))
        .collect()
}

/// The head of a POST to `path` with these fields, without its final empty line.
fn post(origin: &Origin, path: &str, fields: &str) -> String {
    let authority = origin.authority();
    format!("POST http://{authority}{path} HTTP/1.1\r\nHost: {authority}\r\n{fields}")
}

/// The content after all edits.
fn edited(chain: &[&str], content: &[u8]) -> Vec<u8> {
    if content.is_empty() {
        return Vec::new();
    }
    let labels = ["A", "B", "C"].into_iter().zip(chain);
    labels.fold(content.to_vec(), |content, (label, orders)| {
        match orders.split(' ').next_back() {
            Some("upper") => content.to_ascii_uppercase(),
            Some("drop") => Vec::new(),
            Some("append") => [&content, label.as_bytes()].concat(),
            Some("replace") => format!("{label} {}", content.len()).into_bytes(),
            _ => content,
        }
    })
}

/// Letters in no order.
fn text(len: usize) -> Vec<u8> {
    pattern(len).iter().map(|byte| b'a' + byte % 26).collect()
}

/// How a body is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framed {
    Length,
    Chunked,
    UntilClose,
}

impl Framed {
    /// A message; `head` is its start line and field lines, each with its CRLF.
    fn message(self, head: &str, content: &[u8]) -> Vec<u8> {
        let (field, body) = match self {
            Framed::Length => (
                format!("Content-Length: {}\r\n", content.len()),
                content.to_vec(),
            ),
            Framed::Chunked => (
                "Transfer-Encoding: chunked\r\n".to_owned(),
                [chunks(content).as_slice(), b"0\r\n\r\n"].concat(),
            ),
            Framed::UntilClose => (String::new(), content.to_vec()),
        };
        [head.as_bytes(), field.as_bytes(), b"\r\n", &body].concat()
    }
}

/// `content` in a few chunks, without the last chunk.
fn chunks(content: &[u8]) -> Vec<u8> {
    let pieces = content.chunks(content.len() / 5 + 1);
    pieces
        .flat_map(|piece| [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat())
        .collect()
}

/// An origin that answers each request with this response, in this framing.
fn answering(framed: Framed, head: &'static str, content: &[u8]) -> Origin {
    let message = framed.message(head, content);
    Origin::serve(move |peer| {
        while peer.request().is_some() {
            peer.send(&message);
            if framed == Framed::UntilClose {
                return;
            }
        }
    })
}
