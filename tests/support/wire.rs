//! Messages as a strict recipient parses them.
//!
//! Written independently of the proxy's parser, so that an error in one does not hide in the other. It accepts what RFC
//! 9112 allows a sender to generate and calls everything else a fault; it never repairs. It keeps whole messages in
//! memory, which a test may do and a proxy may not.

/// Which side of an exchange the bytes come from.
#[derive(Clone, Copy)]
pub(crate) enum Role<'a> {
    /// What a client sent.
    Request,
    /// The response to a request with this method.
    Response(&'a str),
}

/// How the end of a body was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    None,
    Length,
    Chunked,
    UntilClose,
    Tunnel,
}

/// One request or response.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    /// Start line and field lines as received, without the empty line.
    pub(crate) head: Vec<u8>,
    /// The start line.
    pub(crate) start: String,
    /// Name and value of each field line, in order and spelling.
    pub(crate) fields: Vec<(String, Vec<u8>)>,
    /// The content received so far, without chunked coding.
    pub(crate) body: Vec<u8>,
    /// The trailer section.
    pub(crate) trailers: Vec<(String, Vec<u8>)>,
    pub(crate) framing: Framing,
    /// Whether the body ended according to its framing.
    pub(crate) complete: bool,
    /// The first violation of the sender.
    pub(crate) fault: Option<String>,
    /// Bytes of the input that belong to this message.
    pub(crate) len: usize,
}

impl Message {
    /// The status code; 0 in a request or a broken status line.
    pub(crate) fn status(&self) -> u16 {
        let code = self
            .start
            .strip_prefix("HTTP/1.")
            .and_then(|rest| rest.get(2..5));
        code.and_then(|digits| digits.parse().ok()).unwrap_or(0)
    }

    /// Whether a final response is still to come.
    pub(crate) fn is_interim(&self) -> bool {
        (100..200).contains(&self.status()) && self.status() != 101
    }

    /// The method of a request.
    pub(crate) fn method(&self) -> &str {
        self.start.split(' ').next().unwrap_or("")
    }

    /// The target of a request.
    pub(crate) fn target(&self) -> &str {
        self.start.split(' ').nth(1).unwrap_or("")
    }

    /// Every value of the fields called `name`, in order.
    pub(crate) fn all(&self, name: &str) -> Vec<String> {
        let named = self
            .fields
            .iter()
            .filter(|(each, _)| each.eq_ignore_ascii_case(name));
        named
            .map(|(_, value)| String::from_utf8_lossy(value).into_owned())
            .collect()
    }

    /// The first value of the field called `name`.
    pub(crate) fn field(&self, name: &str) -> Option<String> {
        self.all(name).into_iter().next()
    }

    /// Whether exactly this line, spelling included, is in the head.
    pub(crate) fn has_line(&self, line: &[u8]) -> bool {
        self.head
            .split(|&byte| byte == b'\n')
            .skip(1)
            .any(|each| each.strip_suffix(b"\r").unwrap_or(each) == line)
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Complete and without fault.
    pub(crate) fn is_sound(&self) -> bool {
        self.complete && self.fault.is_none()
    }
}

/// The first message of `bytes`; `None` while its head is incomplete. `ended`: no more bytes will arrive.
pub(crate) fn parse(bytes: &[u8], role: Role<'_>, ended: bool) -> Option<Message> {
    let head_len = super::position(bytes, b"\r\n\r\n")?;
    let mut message = parse_head(&bytes[..head_len], role);
    let rest = &bytes[head_len + 4..];
    let body_len = read_body(&mut message, role, rest, ended);
    message.len = head_len + 4 + body_len;
    Some(message)
}

/// Consecutive messages, the last one possibly incomplete, and the remaining bytes.
pub(crate) fn parse_all(
    mut bytes: &[u8],
    methods: &[&str],
    ended: bool,
) -> (Vec<Message>, Vec<u8>) {
    let mut messages = Vec::new();
    let mut methods = methods.iter();
    let mut method = methods.next();
    while let Some(&current) = method {
        let Some(message) = parse(bytes, Role::Response(current), ended) else {
            break;
        };
        bytes = &bytes[message.len..];
        let may_continue = message.is_sound() && message.framing != Framing::Tunnel;
        if !message.is_interim() {
            method = methods.next();
        }
        messages.push(message);
        if !may_continue {
            break;
        }
    }
    (messages, bytes.to_vec())
}

fn parse_head(head: &[u8], role: Role<'_>) -> Message {
    let mut lines = head
        .split(|&byte| byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let start = String::from_utf8_lossy(lines.next().unwrap_or_default()).into_owned();
    let (fields, mut fault) = parse_fields(lines);
    if has_lone_line_end(head) {
        fault = Some("lone CR or LF".into());
    }
    if !start_line_is_sound(&start, role) {
        fault = Some(format!("start line {start:?}"));
    }
    Message {
        head: head.to_vec(),
        start,
        fields,
        body: Vec::new(),
        trailers: Vec::new(),
        framing: Framing::None,
        complete: false,
        fault,
        len: 0,
    }
}

type Fields = Vec<(String, Vec<u8>)>;

fn parse_fields<'a>(lines: impl Iterator<Item = &'a [u8]>) -> (Fields, Option<String>) {
    let (mut fields, mut fault) = (Vec::new(), None);
    for line in lines {
        match parse_field(line) {
            Some(field) => fields.push(field),
            None => fault = fault.or_else(|| Some(format!("field line {}", super::shown(line)))),
        }
    }
    (fields, fault)
}

fn parse_field(line: &[u8]) -> Option<(String, Vec<u8>)> {
    let colon = line.iter().position(|&byte| byte == b':')?;
    let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
    let value_is_sound = value
        .iter()
        .all(|&byte| byte == b'\t' || byte >= 0x20 && byte != 0x7f);
    (is_token(name) && value_is_sound)
        .then(|| (String::from_utf8_lossy(name).into_owned(), value.to_vec()))
}

fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty()
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}

fn has_lone_line_end(head: &[u8]) -> bool {
    let lone_feed =
        (0..head.len()).any(|at| head[at] == b'\n' && (at == 0 || head[at - 1] != b'\r'));
    let lone_return =
        (0..head.len()).any(|at| head[at] == b'\r' && head.get(at + 1) != Some(&b'\n'));
    lone_feed || lone_return
}

fn start_line_is_sound(start: &str, role: Role<'_>) -> bool {
    let version_is_sound = |version: &str| version == "HTTP/1.1" || version == "HTTP/1.0";
    match role {
        Role::Request => {
            let words: Vec<&str> = start.split(' ').collect();
            let [method, target, version] = words[..] else {
                return false;
            };
            is_token(method.as_bytes()) && !target.is_empty() && version_is_sound(version)
        }
        Role::Response(_) => {
            let mut words = start.splitn(3, ' ');
            let version = words.next().unwrap_or("");
            let status = words.next().unwrap_or("");
            let digits = status.len() == 3
                && status.bytes().all(|byte| byte.is_ascii_digit())
                && status >= "100";
            version_is_sound(version) && digits
        }
    }
}

/// Sets framing, body, trailers and completeness; returns the number of bytes of `rest` in the body.
fn read_body(message: &mut Message, role: Role<'_>, rest: &[u8], ended: bool) -> usize {
    let coding = message.all("transfer-encoding");
    let length = message.all("content-length");
    if !coding.is_empty() && !length.is_empty() {
        message
            .fault
            .get_or_insert("both Content-Length and Transfer-Encoding".into());
    }
    if let Role::Response(method) = role {
        let status = message.status();
        if status == 101 || method == "CONNECT" && (200..300).contains(&status) {
            (message.framing, message.complete) = (Framing::Tunnel, true);
            return 0;
        }
        if status < 200 || status == 204 || status == 304 || method == "HEAD" {
            message.complete = true;
            return 0;
        }
    }
    if !coding.is_empty() {
        return read_chunked(message, &coding, rest);
    }
    if !length.is_empty() {
        return read_length(message, &length, rest);
    }
    if matches!(role, Role::Request) {
        message.complete = true;
        return 0;
    }
    (message.framing, message.complete) = (Framing::UntilClose, ended);
    message.body = rest.to_vec();
    rest.len()
}

fn read_length(message: &mut Message, length: &[String], rest: &[u8]) -> usize {
    message.framing = Framing::Length;
    let digits = length.len() == 1 && length[0].bytes().all(|byte| byte.is_ascii_digit());
    let Some(expected) = length[0].parse::<usize>().ok().filter(|_| digits) else {
        message.fault = Some(format!("Content-Length {length:?}"));
        return rest.len();
    };
    let len = expected.min(rest.len());
    message.body = rest[..len].to_vec();
    message.complete = len == expected;
    len
}

fn read_chunked(message: &mut Message, coding: &[String], rest: &[u8]) -> usize {
    message.framing = Framing::Chunked;
    if coding.len() != 1 || !coding[0].eq_ignore_ascii_case("chunked") {
        message.fault = Some(format!("Transfer-Encoding {coding:?}"));
        return rest.len();
    }
    let mut at = 0;
    loop {
        let Some(line_len) = super::position(&rest[at..], b"\r\n") else {
            return rest.len();
        };
        let Some(size) = chunk_size(&rest[at..at + line_len]) else {
            message.fault = Some(format!(
                "chunk size line {}",
                super::shown(&rest[at..at + line_len])
            ));
            return rest.len();
        };
        at += line_len + 2;
        if size == 0 {
            return at + read_trailers(message, &rest[at..]);
        }
        let available = size.min(rest.len() - at);
        message.body.extend_from_slice(&rest[at..at + available]);
        if rest.len() < at + size + 2 {
            return rest.len();
        }
        if &rest[at + size..at + size + 2] != b"\r\n" {
            message.fault = Some("no CRLF after chunk data".into());
            return rest.len();
        }
        at += size + 2;
    }
}

fn chunk_size(line: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(line).ok()?;
    let digits = text
        .split(';')
        .next()
        .unwrap_or("")
        .trim_end_matches([' ', '\t']);
    let is_hex = !digits.is_empty()
        && digits.len() <= 15
        && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hex
        .then(|| usize::from_str_radix(digits, 16).ok())
        .flatten()
}

fn read_trailers(message: &mut Message, rest: &[u8]) -> usize {
    if rest.starts_with(b"\r\n") {
        message.complete = true;
        return 2;
    }
    let Some(len) = super::position(rest, b"\r\n\r\n") else {
        return rest.len();
    };
    let lines = rest[..len]
        .split(|&byte| byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let (trailers, fault) = parse_fields(lines);
    (message.trailers, message.complete) = (trailers, true);
    message.fault = message.fault.take().or(fault);
    len + 4
}
