//! Malformed and unusual responses: which are always delivered, which only with the relaxed setting, and which never.
//! One row each, with the expected result under both settings; README states the rules.

use crate::support::tls::{Answer, Ask, Offer, Pki, Way};
use crate::support::{Message, Origin, Proxy, contains, shown};

const RELAXED: &str = "[compatibility]\nresponses = \"relaxed\"";

/// The result for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// Delivered, sound and whole.
    Delivered,
    /// 502.
    Refused,
    /// 502, or visibly truncated.
    Broken,
}
use Outcome::{Broken, Delivered, Refused};

struct Row {
    name: &'static str,
    response: Vec<u8>,
    strict: Outcome,
    relaxed: Outcome,
    status: u16,
    body: &'static str,
    line: Option<&'static str>,
    absent: Option<&'static str>,
}

/// A row with the same result under both settings.
fn always(outcome: Outcome, name: &'static str, response: impl AsRef<[u8]>) -> Row {
    Row {
        name,
        response: response.as_ref().to_vec(),
        strict: outcome,
        relaxed: outcome,
        status: 200,
        body: "ok",
        line: None,
        absent: None,
    }
}

/// A row whose response is refused unless the setting is relaxed.
fn relaxed(name: &'static str, response: impl AsRef<[u8]>) -> Row {
    Row {
        strict: Refused,
        ..always(Delivered, name, response)
    }
}

impl Row {
    fn with(mut self, status: u16, body: &'static str) -> Row {
        (self.status, self.body) = (status, body);
        self
    }

    /// A line that the client receives.
    fn line(mut self, line: &'static str) -> Row {
        self.line = Some(line);
        self
    }

    /// Text that the client does not receive.
    fn without(mut self, text: &'static str) -> Row {
        self.absent = Some(text);
        self
    }

    fn check(&self, expected: Outcome, answer: &Message) -> Result<(), String> {
        let is_whole = answer.complete && answer.is_sound();
        let holds = match expected {
            Delivered => {
                is_whole
                    && answer.status() == self.status
                    && answer.body == self.body.as_bytes()
                    && self
                        .line
                        .is_none_or(|line| answer.start == line || answer.has_line(line.as_bytes()))
            }
            Refused => is_whole && answer.status() == 502,
            Broken => answer.status() == 502 || !answer.complete,
        };
        let is_clean = self
            .absent
            .is_none_or(|text| !contains(&answer.head, text.as_bytes()));
        match holds && is_clean {
            true => Ok(()),
            false => Err(format!(
                "{}: {expected:?} expected, got {} {:?} {:?}",
                self.name,
                shown(&answer.head),
                answer.body.escape_ascii().to_string(),
                answer.fault
            )),
        }
    }
}

fn rows() -> Vec<Row> {
    let groups = [
        status_lines(),
        beginnings(),
        names(),
        folded(),
        values(),
        line_ends(),
        lengths(),
        bodiless(),
        codings(),
        chunks(),
        trailers(),
        interim(),
    ];
    groups.into_iter().flatten().collect()
}

fn status_line(line: &[u8]) -> Vec<u8> {
    [line, b"\r\nContent-Length: 2\r\n\r\nok"].concat()
}

fn field(line: &[u8]) -> Vec<u8> {
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n",
        line,
        b"\r\n\r\nok",
    ]
    .concat()
}

fn head(fields: &[u8]) -> Vec<u8> {
    [b"HTTP/1.1 200 OK\r\n", fields, b"\r\nok"].concat()
}

fn chunked(coding: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\n{coding}\r\n{body}").into_bytes()
}

fn status_lines() -> Vec<Row> {
    let row = |outcome, name, line: &[u8]| always(outcome, name, status_line(line));
    let relaxed = |name, line: &[u8]| relaxed(name, status_line(line));
    vec![
        row(Delivered, "no reason phrase", b"HTTP/1.1 200"),
        row(Delivered, "an empty reason phrase", b"HTTP/1.1 200 "),
        row(
            Delivered,
            "a reason phrase beyond ASCII",
            b"HTTP/1.1 200 caf\xe9",
        ),
        row(
            Delivered,
            "a reason phrase with a tab",
            b"HTTP/1.1 200 a\tb",
        ),
        row(
            Delivered,
            "white space behind the status line",
            b"HTTP/1.1 200 OK ",
        ),
        row(
            Delivered,
            "two spaces behind the status",
            b"HTTP/1.1 200  OK",
        ),
        row(Delivered, "HTTP/1.0", b"HTTP/1.0 200 OK").line("HTTP/1.1 200 OK"),
        row(Delivered, "HTTP/1.2", b"HTTP/1.2 200 OK").line("HTTP/1.1 200 OK"),
        row(Delivered, "HTTP/1.9", b"HTTP/1.9 200 OK").line("HTTP/1.1 200 OK"),
        row(Delivered, "status 299", b"HTTP/1.1 299 x").with(299, "ok"),
        row(Delivered, "status 600", b"HTTP/1.1 600 x").with(600, "ok"),
        row(Delivered, "status 999", b"HTTP/1.1 999 x").with(999, "ok"),
        relaxed("two spaces before the status", b"HTTP/1.1  200 OK").line("HTTP/1.1 200 OK"),
        relaxed("a tab before the status", b"HTTP/1.1\t200 OK").line("HTTP/1.1 200 OK"),
        relaxed("a tab behind the status", b"HTTP/1.1 200\tOK").line("HTTP/1.1 200 OK"),
        relaxed("a control character in the reason", b"HTTP/1.1 200 a\x01b")
            .line("HTTP/1.1 200 a b"),
        relaxed("ICY", b"ICY 200 OK").line("HTTP/1.1 200 OK"),
        row(Refused, "NUL in the reason", b"HTTP/1.1 200 a\0b").without("\0"),
        row(
            Refused,
            "CR in the reason",
            b"HTTP/1.1 200 a\rSet-Cookie: b",
        )
        .without("Set-Cookie"),
        row(Refused, "no space behind the status", b"HTTP/1.1 200OK"),
        row(Refused, "a version in lower case", b"http/1.1 200 OK"),
        row(Refused, "HTTP/1.10", b"HTTP/1.10 200 OK"),
        row(Refused, "HTTP/1", b"HTTP/1 200 OK"),
        row(Refused, "HTTP/2", b"HTTP/2 200 OK"),
        row(Refused, "HTTP/2.0", b"HTTP/2.0 200 OK"),
        row(Refused, "no version", b"HTTP 200 OK"),
        row(Refused, "a status alone", b"200 OK"),
        row(Refused, "a status of two digits", b"HTTP/1.1 20 OK"),
        row(Refused, "a status of four digits", b"HTTP/1.1 2000 OK"),
        row(Refused, "status 099", b"HTTP/1.1 099 OK"),
        row(Refused, "a status with a letter", b"HTTP/1.1 2o0 OK"),
        row(Refused, "a status with a sign", b"HTTP/1.1 +200 OK"),
    ]
}

fn beginnings() -> Vec<Row> {
    let row = |name, before: &[u8]| {
        let response = [before, &status_line(b"HTTP/1.1 200 OK")].concat();
        always(Refused, name, response)
    };
    vec![
        row("a space before the status line", b" "),
        row("CRLF before the status line", b"\r\n"),
        row("LF before the status line", b"\n"),
        row("a line before the status line", b"garbage\r\n"),
        always(Refused, "no status line", "Content-Length: 2\r\n\r\nok"),
        always(Refused, "HTTP/0.9", "ok"),
    ]
}

fn names() -> Vec<Row> {
    let row = |outcome, name, line: &[u8]| always(outcome, name, field(line));
    let left_out = |name, line: &'static [u8]| {
        let line = [line, b"\r\nX-B: c"].concat();
        relaxed(name, field(&line))
            .line("X-B: c")
            .without("dropped")
    };
    vec![
        row(Delivered, "a space before the colon", b"X-A : b").line("X-A: b"),
        row(Delivered, "a tab before the colon", b"X-A\t: b").line("X-A: b"),
        always(
            Delivered,
            "a space before the colon of a length",
            head(b"Content-Length : 2\r\n"),
        ),
        left_out("no colon", b"dropped"),
        left_out("no colon, and folded", b"dropped\r\n dropped: b"),
        left_out("an empty name", b": dropped"),
        left_out("a name with a space", b"dropped x: b"),
        left_out("a name with a bracket", b"dropped(x): b"),
        left_out("a name beyond ASCII", b"dropped\xe9: b"),
        left_out("a name with a control character", b"dropped\x01: b"),
        relaxed(
            "white space before the first field",
            "HTTP/1.1 200 OK\r\n X-A: dropped\r\nContent-Length: 2\r\n\r\nok",
        )
        .without("dropped"),
        row(Refused, "a name with NUL", b"X\0: b").without("\0"),
        row(Refused, "a name with CR", b"X-A\r: b"),
        always(
            Refused,
            "a length behind white space",
            head(b" Content-Length: 2\r\n"),
        ),
        always(
            Refused,
            "a length with a space in its name",
            head(b"Content Length: 2\r\n"),
        ),
        always(
            Refused,
            "a length with a control character in its name",
            head(b"Content-Length\x0b: 2\r\n"),
        ),
        always(
            Refused,
            "a length without a colon",
            head(b"Content-Length 2\r\n"),
        ),
        always(
            Refused,
            "a coding behind a byte order mark",
            head(b"\xef\xbb\xbfTransfer-Encoding: chunked\r\n"),
        ),
        always(
            Refused,
            "a coding over two lines",
            head(b"Transfer-\r\n Encoding: chunked\r\n"),
        ),
    ]
}

fn folded() -> Vec<Row> {
    let row = |name, line: &[u8]| always(Delivered, name, field(line));
    vec![
        row("a folded field", b"X-A: a\r\n b\r\n\tc").line("X-A: a b c"),
        row(
            "a folded field that is empty at first",
            b"X-A:\r\n   a  \r\n b",
        )
        .line("X-A: a b"),
        row("a folded field with a blank line", b"X-A: a\r\n \r\n b").line("X-A: a b"),
        row("a folded field that ends blank", b"X-A: a\r\n\t").line("X-A: a"),
        row(
            "a folded field with a field in it",
            b"X-A: a\r\n Set-Cookie: b",
        )
        .line("X-A: a Set-Cookie: b"),
        row("a folded Set-Cookie", b"Set-Cookie: a=b;\r\n Path=/").line("Set-Cookie: a=b; Path=/"),
        always(
            Refused,
            "a folded length",
            head(b"Content-Length:\r\n 2\r\n"),
        ),
        always(
            Refused,
            "a folded length of two numbers",
            head(b"Content-Length: 0\r\n 2\r\n"),
        ),
        always(
            Refused,
            "a folded transfer coding",
            chunked("Transfer-Encoding:\r\n chunked\r\n", "2\r\nok\r\n0\r\n\r\n"),
        ),
        always(
            Refused,
            "a folded field with NUL",
            field(b"X-A: a\r\n b\0c"),
        )
        .without("\0"),
        always(
            Refused,
            "a folded field with CR",
            field(b"X-A: a\r\n b\rX-B: c"),
        )
        .without("X-B"),
    ]
}

fn values() -> Vec<Row> {
    let row = |outcome, name, line: &[u8]| always(outcome, name, field(line));
    let many = "X-A: b\r\n".repeat(299);
    vec![
        row(Delivered, "a value beyond ASCII", b"X-A: caf\xe9"),
        row(
            Delivered,
            "a cookie of many kinds of faults",
            b"Set-Cookie: a=\"b, c\"; \xe4; ;;; expires=never; secure=no",
        ),
        row(
            Delivered,
            "two cookies",
            b"Set-Cookie: a=1\r\nSet-Cookie: a=2",
        )
        .line("Set-Cookie: a=2"),
        row(Delivered, "two locations", b"Location: /a\r\nLocation: /b").line("Location: /b"),
        row(
            Delivered,
            "a length that Connection nominates",
            b"Connection: content-length, close",
        ),
        relaxed("a control character in a value", field(b"X-A: a\x01b\x1b")).line("X-A: a b"),
        relaxed("DEL in a value", field(b"X-A: a\x7fb")).line("X-A: a b"),
        row(Refused, "NUL in a value", b"X-A: a\0b").without("\0"),
        row(Refused, "CR in a value", b"X-A: a\rX-B: b").without("X-B"),
        row(Refused, "CR at the end of a value", b"X-A: a\r"),
        always(
            Refused,
            "300 fields",
            head(format!("Content-Length: 2\r\n{many}").as_bytes()),
        ),
        row(
            Refused,
            "a head over the limit",
            format!("X-A: {}", "b".repeat(70_000)).as_bytes(),
        ),
    ]
}

fn line_ends() -> Vec<Row> {
    vec![
        relaxed(
            "LF alone",
            "HTTP/1.1 200 OK\nContent-Length: 2\nX-A: b\n\nok",
        )
        .line("X-A: b"),
        relaxed(
            "LF behind the status line",
            "HTTP/1.1 200 OK\nContent-Length: 2\r\n\r\nok",
        ),
        relaxed("LF behind a field", field(b"X-A: a\nX-B: b")).line("X-B: b"),
        relaxed(
            "LF at the end of the head",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\nok",
        ),
        relaxed(
            "LF in a folded field",
            "HTTP/1.1 200 OK\nX-A: b\n c\nContent-Length: 2\n\nok",
        )
        .line("X-A: b c"),
        always(
            Refused,
            "LF and CR",
            "HTTP/1.1 200 OK\n\rContent-Length: 2\n\r\n\rok",
        ),
        always(
            Refused,
            "two lengths on lines with LF",
            "HTTP/1.1 200 OK\nContent-Length: 2\nContent-Length: 3\n\nok",
        ),
        always(
            Refused,
            "the end of the connection",
            "HTTP/1.1 200 OK\r\nX-A: b\r\n",
        ),
        always(Delivered, "no fields at all", "HTTP/1.1 200 OK\r\n\r\nok"),
    ]
}

fn lengths() -> Vec<Row> {
    let row = |outcome, name, fields: &str| {
        let fields = fields.replace('|', "\r\nContent-Length: ");
        always(
            outcome,
            name,
            head(format!("Content-Length: {fields}\r\n").as_bytes()),
        )
    };
    vec![
        row(Delivered, "a length with white space around", "  2  ").line("Content-Length: 2"),
        row(Delivered, "a length with a zero before", "02").line("Content-Length: 2"),
        row(Delivered, "a list of one length", "2, 2").line("Content-Length: 2"),
        row(Delivered, "one length on two lines", "2|2").line("Content-Length: 2"),
        always(
            Delivered,
            "more than the length",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokmore",
        ),
        row(Broken, "less than the length", "5"),
        row(Refused, "two lengths", "2|3"),
        row(Refused, "a list of two lengths", "2, 3"),
        row(Refused, "a list with nothing behind the comma", "2,"),
        row(Refused, "a length with a plus", "+2"),
        row(Refused, "a length with a minus", "-2"),
        row(Refused, "a length in hexadecimal", "0x2"),
        row(Refused, "a length with a fraction", "2.0"),
        row(Refused, "a length with a semicolon", "2;"),
        row(Refused, "a length in quotes", "\"2\""),
        row(Refused, "two numbers", "2 2"),
        row(Refused, "a length with a letter", "2x"),
        row(Refused, "an empty length", ""),
        row(Refused, "a length past 64 bits", "18446744073709551618"),
        row(Refused, "a length with CR", "2\rX: y").without("X: y"),
        row(Refused, "a length with a control character", "\u{b}2"),
    ]
}

fn bodiless() -> Vec<Row> {
    let row = |name, response: &str, status| always(Delivered, name, response).with(status, "");
    vec![
        row(
            "204 with content",
            "HTTP/1.1 204 x\r\nContent-Length: 2\r\n\r\nok",
            204,
        ),
        row(
            "204 in chunks",
            "HTTP/1.1 204 x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            204,
        ),
        row(
            "304 with content",
            "HTTP/1.1 304 x\r\nContent-Length: 2\r\n\r\nok",
            304,
        ),
        row(
            "205 with content",
            "HTTP/1.1 205 x\r\nContent-Length: 2\r\n\r\nok",
            205,
        )
        .with(205, "ok"),
    ]
}

fn codings() -> Vec<Row> {
    const CHUNKS: &str = "2\r\nok\r\n0\r\n\r\n";
    let of = |outcome, name, coding: &str, body: &str| {
        let response = chunked(&format!("Transfer-Encoding: {coding}\r\n"), body);
        always(outcome, name, response)
    };
    vec![
        of(Delivered, "chunked", "chunked", CHUNKS),
        of(Delivered, "chunked in upper case", "CHUNKED", CHUNKS),
        of(
            Delivered,
            "identity with a length",
            "identity\r\nContent-Length: 2",
            "okmore",
        )
        .without("identity"),
        of(Delivered, "identity until the end", "Identity", "ok").without("dentity"),
        always(
            Delivered,
            "identity in HTTP/1.0",
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: identity\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
        ),
        of(
            Refused,
            "identity with two lengths",
            "identity\r\nContent-Length: 2, 3",
            "ok",
        ),
        of(Refused, "identity, chunked", "identity, chunked", CHUNKS),
        of(Refused, "chunked, identity", "chunked, identity", CHUNKS),
        of(
            Refused,
            "identity and chunked on two lines",
            "identity\r\nTransfer-Encoding: chunked",
            CHUNKS,
        ),
        of(
            Refused,
            "a length and chunked",
            "chunked\r\nContent-Length: 12",
            CHUNKS,
        ),
        of(
            Refused,
            "chunked on two lines",
            "chunked\r\nTransfer-Encoding: chunked",
            CHUNKS,
        ),
        of(Refused, "chunked twice", "chunked, chunked", CHUNKS),
        of(Refused, "gzip, chunked", "gzip, chunked", CHUNKS),
        of(Refused, "an unknown coding", "frob", "ok"),
        of(Refused, "almost chunked", "xchunked", CHUNKS),
        of(
            Refused,
            "no coding in the field",
            "\r\nContent-Length: 2",
            "ok",
        ),
        of(
            Refused,
            "chunked behind a control character",
            "\u{b}chunked",
            CHUNKS,
        ),
        always(
            Refused,
            "chunked in HTTP/1.0",
            format!("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{CHUNKS}"),
        ),
    ]
}

fn chunks() -> Vec<Row> {
    let of = |outcome, name, body: &str| {
        always(
            outcome,
            name,
            chunked("Transfer-Encoding: chunked\r\n", body),
        )
    };
    vec![
        of(Delivered, "a chunk extension", "2;a=b\r\nok\r\n0\r\n\r\n"),
        of(
            Delivered,
            "a chunk size in upper case",
            "A\r\n0123456789\r\n0\r\n\r\n",
        )
        .with(200, "0123456789"),
        of(
            Delivered,
            "a chunk size with zeros before",
            "0002\r\nok\r\n0\r\n\r\n",
        ),
        of(
            Delivered,
            "spaces behind a chunk size",
            "2  \r\nok\r\n0\r\n\r\n",
        ),
        of(
            Delivered,
            "bytes behind the last chunk",
            "2\r\nok\r\n0\r\n\r\nmore",
        ),
        of(Broken, "a chunk size with 0x", "0x2\r\nok\r\n0\r\n\r\n"),
        of(Broken, "a chunk size with a plus", "+2\r\nok\r\n0\r\n\r\n"),
        of(
            Broken,
            "a space before a chunk size",
            " 2\r\nok\r\n0\r\n\r\n",
        ),
        of(Broken, "LF behind a chunk size", "2\nok\r\n0\r\n\r\n"),
        of(Broken, "LF behind a chunk", "2\r\nok\n0\r\n\r\n"),
        of(Broken, "nothing behind a chunk", "2\r\nok0\r\n\r\n"),
        of(Broken, "no last chunk", "2\r\nok\r\n"),
        of(Broken, "no end of the last chunk", "2\r\nok\r\n0\r\n"),
    ]
}

fn trailers() -> Vec<Row> {
    let of = |outcome, name, section: &str| {
        let body = format!("2\r\nok\r\n0\r\n{section}\r\n");
        always(
            outcome,
            name,
            chunked("Transfer-Encoding: chunked\r\n", &body),
        )
    };
    vec![
        of(Delivered, "a trailer", "X-T: a\r\n"),
        of(Delivered, "a folded trailer", "X-T: a\r\n b\r\n"),
        of(
            Delivered,
            "a trailer with a space before the colon",
            "X-T : a\r\n",
        ),
        of(
            Delivered,
            "a length in the trailers",
            "Content-Length: 9\r\n",
        ),
        of(Broken, "a trailer without a colon", "X-T\r\n"),
        of(
            Broken,
            "white space before the first trailer",
            " X-T: a\r\n",
        ),
        of(Broken, "a trailer that ends in LF", "X-T: a\n"),
        of(Broken, "a trailer with CR", "X-T: a\rX-U: b\r\n"),
    ]
}

fn interim() -> Vec<Row> {
    let before = |outcome, name, interim: &str| {
        let response = [interim.as_bytes(), &status_line(b"HTTP/1.1 200 OK")].concat();
        always(outcome, name, response)
    };
    vec![
        before(
            Delivered,
            "100 that nobody waits for",
            "HTTP/1.1 100 Continue\r\n\r\n",
        ),
        before(
            Delivered,
            "100 in HTTP/1.0",
            "HTTP/1.0 100 Continue\r\n\r\n",
        ),
        before(
            Delivered,
            "103 with a length",
            "HTTP/1.1 103 x\r\nContent-Length: 2\r\n\r\n",
        ),
        before(Delivered, "199", "HTTP/1.1 199 x\r\n\r\n"),
        before(
            Delivered,
            "103 with a folded field",
            "HTTP/1.1 103 x\r\nLink: </a>;\r\n rel=preload\r\n\r\n",
        ),
        Row {
            strict: Refused,
            ..before(
                Delivered,
                "100 that ends in LF",
                "HTTP/1.1 100 Continue\n\n",
            )
        },
        before(
            Refused,
            "101 that nobody asked for",
            "HTTP/1.1 101 x\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        ),
    ]
}

/// Answers a request for `/N` with the response of row `N`, then closes.
fn origin_of(rows: &[Row]) -> Origin {
    let responses: Vec<Vec<u8>> = rows.iter().map(|row| row.response.clone()).collect();
    Origin::serve(move |peer| {
        let Some(request) = peer.request() else {
            return;
        };
        let number: usize = request.target()[1..].parse().expect("a number of a row");
        peer.send(&responses[number]);
        peer.finish();
        peer.park();
    })
}

fn failures(proxy: &Proxy, rows: &[Row], expected: impl Fn(&Row) -> Outcome) -> Vec<String> {
    let origin = origin_of(rows);
    let check = |(number, row): (usize, &Row)| {
        let answer = proxy.get(&origin, &format!("/{number}"));
        row.check(expected(row), &answer).err()
    };
    rows.iter().enumerate().filter_map(check).collect()
}

#[test]
fn every_odd_response_has_its_outcome() {
    let rows = rows();
    assert!(rows.len() > 140, "{} rows", rows.len());
    let mut wrong = failures(&Proxy::start(), &rows, |row| row.strict);
    let proxy = Proxy::command().config(RELAXED).start();
    wrong.extend(failures(&proxy, &rows, |row| row.relaxed));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn only_the_hosts_of_the_list_are_relaxed() {
    let rows = [relaxed("LF", "HTTP/1.1 200 OK\nContent-Length: 2\n\nok")];
    for (hosts, expected) in [
        ("127.0.0.1", Delivered),
        ("[::ffff:127.0.0.1]", Delivered),
        ("*", Delivered),
        ("localhost", Refused),
        (".example.com", Refused),
    ] {
        let config = format!("[compatibility]\nrelaxed_hosts = [{hosts:?}]");
        let proxy = Proxy::command().config(&config).start();
        let wrong = failures(&proxy, &rows, |_| expected);
        assert!(wrong.is_empty(), "{hosts}: {wrong:?}");
    }
}

#[test]
fn the_log_says_that_every_host_is_relaxed() {
    for (config, is_said) in [
        (RELAXED, true),
        ("[compatibility]\nrelaxed_hosts = [\"a.test\", \"*\"]", true),
        ("[compatibility]\nrelaxed_hosts = [\"a.test\"]", false),
    ] {
        let proxy = Proxy::command().config(config).start();
        let lines = proxy.lines();
        let says = |line: &String| {
            line.contains("WARNING") && line.contains("malformed responses of all hosts")
        };
        assert_eq!(lines.iter().any(says), is_said, "{config}: {lines:?}");
    }
}

#[test]
fn a_connection_is_not_used_again_after_a_relaxed_response() {
    for (response, connections) in [
        (
            "HTTP/1.1 200 OK\r\nX-A: a\r\n b\r\nContent-Length: 2\r\n\r\nok",
            1,
        ),
        ("HTTP/1.1 200 OK\nContent-Length: 2\n\nok", 2),
        ("HTTP/1.1 200 OK\r\nX-A: b\nContent-Length: 2\r\n\r\nok", 2),
        (
            "HTTP/1.1 103 x\n\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            2,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\nContent-Length: 2\r\n\r\nok",
            2,
        ),
    ] {
        let origin = Origin::answering(response);
        let proxy = Proxy::command().config(RELAXED).start();
        let mut client = proxy.client();
        for path in ["/a", "/b"] {
            let answer = client.ask(crate::support::get(&origin, path));
            assert_eq!((answer.status(), &answer.body[..]), (200, &b"ok"[..]));
        }
        assert_eq!(origin.connections().len(), connections, "{response:?}");
    }
}

#[test]
fn clients_of_http_2_get_a_repaired_response() {
    let pki = Pki::new();
    let rows = [
        always(Delivered, "folded", field(b"X-A: a\r\n b")),
        relaxed("LF", "HTTP/1.1 200 OK\nContent-Length: 2\nX-A: a b\n\nok"),
        relaxed("control characters", field(b"X-A: a\x01b")),
        always(Refused, "NUL", field(b"X-A: a\0b")),
    ];
    let origin = origin_of(&rows);
    for (config, outcome) in [
        ("", (|row| row.strict) as fn(&Row) -> Outcome),
        (RELAXED, |row| row.relaxed),
    ] {
        let proxy = pki.relaying().args(pki.listener()).config(config).start();
        let mut session = pki.client(&proxy).over(Way::Http2).session();
        for (number, row) in rows.iter().enumerate() {
            let answer = session.ask(Ask::get(&origin.authority(), &format!("/{number}")));
            match outcome(row) {
                Delivered => {
                    assert_eq!(answer.told(), (200, "ok".into()), "{}", row.name);
                    assert_eq!(answer.field("x-a").as_deref(), Some("a b"), "{}", row.name);
                }
                _ => assert_eq!(answer.told().0, 502, "{}", row.name),
            }
        }
    }
}

#[test]
fn white_space_around_values_of_an_http_2_response_is_taken_off() {
    let pki = Pki::new();
    let answer = Answer::parts(vec![b"ok".to_vec()])
        .field("x-pad", " \ta b ")
        .trailer("x-end", " c\t");
    let origin = pki.origin().offering(Offer::Http2).answering(answer);
    let proxy = pki.intercepting().start();
    for offer in [Offer::Http2, Offer::Http1] {
        let mut session = pki
            .client(&proxy)
            .offering(offer)
            .https(&origin.authority());
        let answer = session.ask(Ask::get(&origin.authority(), "/").field("te", "trailers"));
        assert_eq!(answer.told(), (200, "ok".into()));
        assert_eq!(answer.field("x-pad").as_deref(), Some("a b"));
        let trailers = crate::support::tls::values(&answer.trailers, "x-end");
        assert!(offer == Offer::Http1 || trailers == ["c"], "{trailers:?}");
    }
}
