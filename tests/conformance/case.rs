//! One row: what the client sends, what the origin sends back, and what must hold afterwards.
//!
//! Each row is built with the methods of [`Case`] and runs once. In its bytes, `{T}` is replaced by the origin as an
//! absolute-form target, `{H}` by the origin's authority, `{P}` by its port, and `{6}` by the authority of the same
//! origin on the IPv6 loopback.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{
    Client, End, HANG, Message, OK, Origin, Peer, Proxy, contains, get, parse_all, shown,
};

/// How long to wait after the expected responses for bytes that must not arrive.
const SETTLE: Duration = Duration::from_millis(60);

/// What the client does, in order.
enum Step {
    Send(Vec<u8>),
    Dribble(Vec<u8>),
    WaitFor(Vec<u8>),
    Pause(u64),
    Finish,
    Reset,
}

/// What the origin does for one request.
#[derive(Clone)]
pub(super) enum Act {
    /// Do not wait for the request body; must be the first act.
    Early,
    /// Send these bytes.
    Send(Vec<u8>),
    /// Send these bytes this many times.
    Repeat(usize, Vec<u8>),
    /// Wait, in milliseconds.
    Pause(u64),
    /// Wait until these bytes have arrived.
    WaitFor(Vec<u8>),
    /// Close the connection cleanly.
    Close,
    /// Reset the connection.
    Reset,
}

/// Sends `bytes`.
pub(super) fn say(bytes: impl AsRef<[u8]>) -> Act {
    Act::Send(bytes.as_ref().to_vec())
}

/// What must hold afterwards. Field names are compared case-insensitively, lines byte by byte.
enum Check {
    Statuses(Vec<Vec<u16>>),
    Interim(Vec<u16>),
    Refused(Vec<u16>),
    Aborted(Vec<u16>),
    RequestCount(usize),
    OriginBody(Vec<u8>),
    OriginStart(String),
    OriginLine(String),
    OriginNoField(&'static str),
    OriginLacks(Vec<u8>),
    OriginHas(Vec<u8>),
    SameOrUnsent(Vec<u8>),
    Dropped(Vec<u8>),
    Body(Vec<u8>),
    BodyLen(usize),
    Line(String),
    Field(&'static str),
    NoField(&'static str),
    ClientHas(Vec<u8>),
    ClientLacks(Vec<u8>),
    OneLength,
    Sound,
    Truncated,
    Closes,
    Stays,
    NextIsClean,
}

/// One row of the table.
pub(super) struct Case {
    pub(super) id: &'static str,
    pub(super) rule: &'static str,
    methods: Vec<&'static str>,
    steps: Vec<Step>,
    script: Vec<Vec<Act>>,
    is_raw: bool,
    needs_ipv6: bool,
    checks: Vec<Check>,
}

/// Starts a row; `rule` is the RFC section that it tests.
pub(super) fn case(id: &'static str, rule: &'static str) -> Case {
    let (methods, steps, script, checks) = (vec!["GET"], Vec::new(), Vec::new(), Vec::new());
    Case {
        id,
        rule,
        methods,
        steps,
        script,
        is_raw: false,
        needs_ipv6: false,
        checks,
    }
}

/// A row that sends a GET for `/<id>` with these field lines.
pub(super) fn get_with(id: &'static str, rule: &'static str, fields: impl AsRef<[u8]>) -> Case {
    let head = [
        format!("GET {{T}}/{id} HTTP/1.1\r\nHost: {{H}}\r\n").as_bytes(),
        fields.as_ref(),
        b"\r\n",
    ]
    .concat();
    case(id, rule).send(head)
}

/// A row that sends a POST with these field lines, followed by these bytes.
pub(super) fn post(
    id: &'static str,
    rule: &'static str,
    fields: impl AsRef<[u8]>,
    body: impl AsRef<[u8]>,
) -> Case {
    let start = format!("POST {{T}}/{id} HTTP/1.1\r\nHost: {{H}}\r\n");
    let bytes = [start.as_bytes(), fields.as_ref(), b"\r\n", body.as_ref()].concat();
    case(id, rule).methods(&["POST"]).send(bytes)
}

/// A row that sends a chunked POST with these bytes as its body.
pub(super) fn chunked_post(id: &'static str, rule: &'static str, body: impl AsRef<[u8]>) -> Case {
    post(id, rule, "Transfer-Encoding: chunked\r\n", body)
}

/// A row that sends a plain GET; the origin responds with these bytes.
pub(super) fn answered(id: &'static str, rule: &'static str, response: impl AsRef<[u8]>) -> Case {
    get_with(id, rule, "").origin([say(response)])
}

/// A row that opens a tunnel to an origin that performs `acts`.
pub(super) fn tunnel(id: &'static str, rule: &'static str, acts: impl Into<Vec<Act>>) -> Case {
    let head = "CONNECT {H} HTTP/1.1\r\nHost: {H}\r\n\r\n";
    let row = case(id, rule)
        .methods(&["CONNECT"])
        .send(head)
        .wait_for("\r\n\r\n");
    row.raw_origin(acts).statuses(&[200])
}

impl Case {
    /// The request methods, in order; by default a single GET.
    pub(super) fn methods(mut self, methods: &[&'static str]) -> Case {
        self.methods = methods.to_vec();
        self
    }

    pub(super) fn send(self, bytes: impl AsRef<[u8]>) -> Case {
        self.step(Step::Send(bytes.as_ref().to_vec()))
    }

    /// Sends byte by byte.
    pub(super) fn dribble(self, bytes: impl AsRef<[u8]>) -> Case {
        self.step(Step::Dribble(bytes.as_ref().to_vec()))
    }

    /// Waits until the client has received these bytes.
    pub(super) fn wait_for(self, bytes: impl AsRef<[u8]>) -> Case {
        self.step(Step::WaitFor(bytes.as_ref().to_vec()))
    }

    pub(super) fn pause(self, milliseconds: u64) -> Case {
        self.step(Step::Pause(milliseconds))
    }

    /// Closes the client's sending direction.
    pub(super) fn finish(self) -> Case {
        self.step(Step::Finish)
    }

    /// The client resets the connection.
    pub(super) fn reset(self) -> Case {
        self.step(Step::Reset)
    }

    fn step(mut self, step: Step) -> Case {
        self.steps.push(step);
        self
    }

    /// What the origin does for the next request. Requests beyond the script get a plain 200.
    pub(super) fn origin(mut self, acts: impl Into<Vec<Act>>) -> Case {
        self.script.push(acts.into());
        self
    }

    /// What the origin does on its connection, without reading requests.
    pub(super) fn raw_origin(mut self, acts: impl Into<Vec<Act>>) -> Case {
        self.is_raw = true;
        self.origin(acts)
    }

    /// Runs the row over the IPv6 loopback; skipped on machines without one.
    pub(super) fn over_ipv6(mut self) -> Case {
        self.needs_ipv6 = true;
        self
    }

    fn check(mut self, check: Check) -> Case {
        self.checks.push(check);
        self
    }

    /// The proxy replies with this status and closes; nothing reaches the origin.
    pub(super) fn refused(self, status: u16) -> Case {
        self.refused_as(&[status])
    }

    /// Refused with one of these statuses.
    pub(super) fn refused_as(self, statuses: &[u16]) -> Case {
        self.check(Check::Refused(statuses.to_vec()))
    }

    /// The fault is in the body: the proxy replies 400 or closes, and the origin never sees a complete request.
    pub(super) fn aborted(self) -> Case {
        self.aborted_as(&[400])
    }

    /// Aborted with one of these statuses.
    pub(super) fn aborted_as(self, statuses: &[u16]) -> Case {
        self.check(Check::Aborted(statuses.to_vec()))
    }

    /// Either refused before anything is forwarded, or forwarded well-formed with this body.
    pub(super) fn refused_or_body(self, body: impl AsRef<[u8]>) -> Case {
        self.check(Check::SameOrUnsent(body.as_ref().to_vec()))
    }

    /// These bytes never reach the origin: the message is forwarded without them, or aborted.
    pub(super) fn dropped(self, bytes: &str) -> Case {
        self.check(Check::Dropped(bytes.as_bytes().to_vec()))
    }

    /// The final responses have these statuses, and each is complete.
    pub(super) fn statuses(self, statuses: &[u16]) -> Case {
        let each = statuses.iter().map(|&status| vec![status]).collect();
        self.check(Check::Statuses(each)).check(Check::Sound)
    }

    /// The only final response has one of these statuses.
    pub(super) fn status_in(self, statuses: &[u16]) -> Case {
        self.check(Check::Statuses(vec![statuses.to_vec()]))
    }

    pub(super) fn interim(self, statuses: &[u16]) -> Case {
        self.check(Check::Interim(statuses.to_vec()))
    }

    /// The origin received this many requests, all of them complete and well-formed.
    pub(super) fn requests(self, count: usize) -> Case {
        self.check(Check::RequestCount(count))
    }

    /// The first request is complete and has this content.
    pub(super) fn origin_body(self, body: impl AsRef<[u8]>) -> Case {
        self.check(Check::OriginBody(body.as_ref().to_vec()))
    }

    /// The first request has this request line.
    pub(super) fn origin_start(self, line: &str) -> Case {
        self.check(Check::OriginStart(line.into()))
    }

    /// The first request has this field line.
    pub(super) fn origin_line(self, line: &str) -> Case {
        self.check(Check::OriginLine(line.into()))
    }

    /// The first request has no field of this name.
    pub(super) fn origin_no_field(self, name: &'static str) -> Case {
        self.check(Check::OriginNoField(name))
    }

    pub(super) fn origin_lacks(self, bytes: impl AsRef<[u8]>) -> Case {
        self.check(Check::OriginLacks(bytes.as_ref().to_vec()))
    }

    pub(super) fn origin_has(self, bytes: impl AsRef<[u8]>) -> Case {
        self.check(Check::OriginHas(bytes.as_ref().to_vec()))
    }

    /// The first final response has this content.
    pub(super) fn body(self, body: impl AsRef<[u8]>) -> Case {
        self.check(Check::Body(body.as_ref().to_vec()))
    }

    pub(super) fn body_len(self, len: usize) -> Case {
        self.check(Check::BodyLen(len))
    }

    /// The first final response has this field line.
    pub(super) fn line(self, line: &str) -> Case {
        self.check(Check::Line(line.into()))
    }

    /// The first final response has a field of this name.
    pub(super) fn field(self, name: &'static str) -> Case {
        self.check(Check::Field(name))
    }

    /// The first final response has no field of this name.
    pub(super) fn no_field(self, name: &'static str) -> Case {
        self.check(Check::NoField(name))
    }

    /// The first final response states its length once, or is a 502.
    pub(super) fn no_repeat(self) -> Case {
        self.check(Check::OneLength)
    }

    pub(super) fn client_has(self, bytes: impl AsRef<[u8]>) -> Case {
        self.check(Check::ClientHas(bytes.as_ref().to_vec()))
    }

    pub(super) fn client_lacks(self, bytes: impl AsRef<[u8]>) -> Case {
        self.check(Check::ClientLacks(bytes.as_ref().to_vec()))
    }

    /// The response is visibly truncated, or replaced by a 502.
    pub(super) fn truncated(self) -> Case {
        self.check(Check::Truncated)
    }

    /// The origin's response cannot be used: the proxy replies 502.
    pub(super) fn bad_gateway(self) -> Case {
        self.statuses(&[502]).field("Proxy-Status")
    }

    /// The client connection is closed.
    pub(super) fn closes(self) -> Case {
        self.check(Check::Closes)
    }

    /// The client connection can be reused.
    pub(super) fn stays(self) -> Case {
        self.check(Check::Stays)
    }

    /// The next exchange, on a new client connection, gets the origin's next response and nothing else.
    pub(super) fn next_is_clean(self) -> Case {
        self.check(Check::NextIsClean)
    }

    /// Runs the row. The error describes what failed.
    pub(super) fn run(&self, proxy: &Proxy) -> Result<(), String> {
        if self.needs_ipv6 && !crate::support::has_ipv6() {
            return Ok(());
        }
        catch_unwind(AssertUnwindSafe(|| self.play(proxy))).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            Err(text
                .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).into()))
                .unwrap_or_default())
        })
    }

    fn play(&self, proxy: &Proxy) -> Result<(), String> {
        let host = if self.needs_ipv6 {
            Ipv6Addr::LOCALHOST.into()
        } else {
            Ipv4Addr::LOCALHOST.into()
        };
        let (script, is_raw, served) = (
            self.script.clone(),
            self.is_raw,
            Arc::new(AtomicUsize::new(0)),
        );
        let origin = Origin::serve_at(host, move |peer| serve(peer, &script, is_raw, &served));
        let mut client = proxy.client();
        let left = self.take_steps(&mut client, &origin);
        let view = View::of(self, client, left, &origin);
        let held = self
            .checks
            .iter()
            .try_for_each(|check| view.hold(check, proxy, &origin));
        held.map_err(|reason| {
            format!(
                "{reason}\n    client got {}\n    origin got {}",
                shown(&view.received),
                shown(&view.origin_bytes)
            )
        })?;
        let alive = Origin::answering(OK);
        let answer = proxy.get(&alive, "/alive").status();
        if answer == 200 {
            Ok(())
        } else {
            Err(format!("a plain GET afterwards gets {answer}"))
        }
    }

    /// Returns `true` if the client must reset the connection.
    fn take_steps(&self, client: &mut Client, origin: &Origin) -> bool {
        for step in &self.steps {
            match step {
                Step::Send(bytes) => {
                    client.try_send(expand(bytes, origin));
                }
                Step::Dribble(bytes) => client.dribble(expand(bytes, origin)),
                Step::WaitFor(bytes) => wait_for(client, bytes),
                Step::Pause(milliseconds) => thread::sleep(Duration::from_millis(*milliseconds)),
                Step::Finish => client.finish(),
                Step::Reset => return true,
            }
        }
        false
    }

    fn must_close(&self) -> bool {
        self.checks.iter().any(|check| {
            matches!(
                check,
                Check::Refused(_) | Check::Aborted(_) | Check::Closes | Check::Truncated
            )
        })
    }
}

/// Unlike [`Client::read_until`], searches everything received, including parsed responses.
fn wait_for(client: &mut Client, bytes: &[u8]) {
    let deadline = Instant::now() + HANG;
    while !contains(client.received(), bytes) && client.end().is_none() && Instant::now() < deadline
    {
        client.fill(deadline);
    }
}

fn expand(bytes: &[u8], origin: &Origin) -> Vec<u8> {
    let address = origin.address();
    let authority = address.to_string();
    let replacements = [
        ("{T}", format!("http://{authority}")),
        ("{H}", authority.clone()),
        ("{P}", address.port().to_string()),
        ("{6}", authority),
    ];
    let mut bytes = bytes.to_vec();
    for (name, value) in replacements {
        while let Some(at) = crate::support::position(&bytes, name.as_bytes()) {
            bytes.splice(at..at + name.len(), value.bytes());
        }
    }
    bytes
}

fn serve(peer: &mut Peer, script: &[Vec<Act>], is_raw: bool, served: &AtomicUsize) {
    let plain = [say(OK)];
    loop {
        let acts = script
            .get(served.load(Ordering::SeqCst))
            .map_or(&plain[..], Vec::as_slice);
        let is_early = matches!(acts.first(), Some(Act::Early));
        let came = is_raw
            || if is_early {
                peer.head().is_some()
            } else {
                peer.request().is_some()
            };
        if !came {
            return;
        }
        served.fetch_add(1, Ordering::SeqCst);
        if !perform(peer, acts) {
            return;
        }
        if is_raw {
            return peer.park();
        }
    }
}

/// Returns `false` once the connection is closed.
fn perform(peer: &mut Peer, acts: &[Act]) -> bool {
    for act in acts {
        match act {
            Act::Early => {}
            Act::Send(bytes) => {
                peer.send(bytes);
            }
            Act::Repeat(times, bytes) => {
                peer.send(bytes.repeat(*times));
            }
            Act::Pause(milliseconds) => peer.pause(*milliseconds),
            Act::WaitFor(bytes) => {
                peer.wait_for(bytes);
            }
            Act::Close => {
                peer.close();
                return false;
            }
            Act::Reset => {
                peer.reset();
                return false;
            }
        }
    }
    true
}

/// What client and origin received during the exchange.
struct View {
    received: Vec<u8>,
    end: Option<End>,
    interim: Vec<Message>,
    finals: Vec<Message>,
    origin_bytes: Vec<u8>,
    origin_messages: Vec<Message>,
    client: std::cell::RefCell<Client>,
}

impl View {
    fn of(row: &Case, mut client: Client, left: bool, origin: &Origin) -> View {
        if left {
            client.reset();
            origin.wait_for_end();
            let (messages, bytes) = (origin.messages(), origin.received());
            return View::from_parts(
                Vec::new(),
                None,
                Vec::new(),
                bytes,
                messages,
                Client::connect(origin.address()),
            );
        }
        let deadline = Instant::now() + HANG;
        while client.end().is_none() && Instant::now() < deadline {
            if !row.must_close() && row.is_answered(client.received()) {
                client.stays_quiet(SETTLE);
                break;
            }
            client.fill(deadline);
        }
        let received = client.received().to_vec();
        let (messages, _) = parse_all(&received, &row.methods, client.end() == Some(End::Closed));
        let end = client.end();
        View::from_parts(
            received,
            end,
            messages,
            origin.received(),
            origin.messages(),
            client,
        )
    }

    fn from_parts(
        received: Vec<u8>,
        end: Option<End>,
        messages: Vec<Message>,
        origin_bytes: Vec<u8>,
        origin_messages: Vec<Message>,
        client: Client,
    ) -> View {
        let (interim, finals) = messages.into_iter().partition(Message::is_interim);
        View {
            received,
            end,
            interim,
            finals,
            origin_bytes,
            origin_messages,
            client: client.into(),
        }
    }

    fn first(&self) -> Result<&Message, String> {
        self.finals.first().ok_or_else(|| "no response".into())
    }

    fn first_request(&self) -> Result<&Message, String> {
        self.origin_messages
            .first()
            .ok_or_else(|| "no request at the origin".into())
    }

    fn hold(&self, check: &Check, proxy: &Proxy, origin: &Origin) -> Result<(), String> {
        match check {
            Check::Statuses(wanted) => self.hold_statuses(wanted),
            Check::Interim(wanted) => {
                let got: Vec<u16> = self.interim.iter().map(Message::status).collect();
                expect(&got == wanted, || {
                    format!("interim responses {got:?}, not {wanted:?}")
                })
            }
            Check::Sound => self.hold_sound(),
            Check::Refused(statuses) => self.hold_refused(statuses),
            Check::Aborted(statuses) => self.hold_aborted(statuses),
            Check::RequestCount(count) => self.hold_count(*count),
            Check::OriginBody(body) => self.hold_origin_body(body),
            Check::SameOrUnsent(body) => {
                if self.origin_bytes.is_empty() {
                    self.hold_refused(&[400, 501])
                } else {
                    self.hold_origin_body(body)
                }
            }
            Check::Dropped(bytes) => {
                let forwarded = self.origin_messages.iter().any(Message::is_sound);
                let dropped = !contains(&self.origin_bytes, bytes);
                expect(dropped, || format!("{} at the origin", shown(bytes)))?;
                if forwarded {
                    self.hold_statuses(&[vec![200]])
                } else {
                    self.hold_aborted(&[400])
                }
            }
            Check::OriginStart(line) => {
                let start = &self.first_request()?.start;
                expect(start == line, || {
                    format!("request line {start:?}, not {line:?}")
                })
            }
            Check::OriginLine(line) => {
                let line = expand(line.as_bytes(), origin);
                let has = self.first_request()?.has_line(&line);
                expect(has, || format!("no line {} at the origin", shown(&line)))
            }
            Check::OriginNoField(name) => {
                let field = self.first_request()?.field(name);
                expect(field.is_none(), || {
                    format!("{name}: {field:?} at the origin")
                })
            }
            Check::OriginLacks(bytes) => expect(!contains(&self.origin_bytes, bytes), || {
                format!("{} at the origin", shown(bytes))
            }),
            Check::OriginHas(bytes) => expect(contains(&self.origin_bytes, bytes), || {
                format!("no {} at the origin", shown(bytes))
            }),
            Check::Body(body) => {
                let got = &self.first()?.body;
                expect(got == body, || {
                    format!("body {}, not {}", shown(got), shown(body))
                })
            }
            Check::BodyLen(len) => {
                let got = self.first()?.body.len();
                expect(got == *len, || format!("body of {got} bytes, not {len}"))
            }
            Check::Line(line) => {
                let has = self.first()?.has_line(&expand(line.as_bytes(), origin));
                expect(has, || format!("no line {line:?} in the response"))
            }
            Check::Field(name) => {
                let has = self.first()?.field(name).is_some();
                expect(has, || format!("no {name} in the response"))
            }
            Check::NoField(name) => {
                let field = self.first()?.field(name);
                expect(field.is_none(), || {
                    format!("{name}: {field:?} in the response")
                })
            }
            Check::ClientHas(bytes) => expect(contains(&self.received, bytes), || {
                format!("no {} at the client", shown(bytes))
            }),
            Check::ClientLacks(bytes) => expect(!contains(&self.received, bytes), || {
                format!("{} at the client", shown(bytes))
            }),
            Check::OneLength => {
                let lengths = self.first()?.all("Content-Length");
                expect(lengths.len() == 1, || format!("lengths {lengths:?}"))
            }
            Check::Truncated => self.hold_truncated(),
            Check::Closes => expect(self.end.is_some(), || "the connection stays open".into()),
            Check::Stays => self.hold_stays(origin),
            Check::NextIsClean => {
                let next = proxy.get(origin, "/next");
                expect(next.text() == "origin-ok", || {
                    format!("the next client got {}", shown(&next.body))
                })
            }
        }
    }

    fn hold_statuses(&self, wanted: &[Vec<u16>]) -> Result<(), String> {
        let got: Vec<u16> = self.finals.iter().map(Message::status).collect();
        let matches = got.len() == wanted.len()
            && got
                .iter()
                .zip(wanted)
                .all(|(got, wanted)| wanted.contains(got));
        expect(matches, || format!("statuses {got:?}, not {wanted:?}"))
    }

    fn hold_sound(&self) -> Result<(), String> {
        let broken = self
            .interim
            .iter()
            .chain(&self.finals)
            .find(|message| !message.is_sound());
        match broken {
            Some(message) => Err(format!(
                "{} is not sound: {:?}",
                message.start, message.fault
            )),
            None => Ok(()),
        }
    }

    fn hold_refused(&self, statuses: &[u16]) -> Result<(), String> {
        expect(self.origin_bytes.is_empty(), || {
            "something reached the origin".into()
        })?;
        self.hold_error(statuses)
    }

    /// The properties shared by all error responses of the proxy.
    fn hold_error(&self, statuses: &[u16]) -> Result<(), String> {
        self.hold_statuses(&[statuses.to_vec()])?;
        self.hold_sound()?;
        let answer = self.first()?;
        expect(answer.field("Proxy-Status").is_some(), || {
            "no Proxy-Status".into()
        })?;
        expect(answer.text().trim().len() > 3, || {
            "no text that explains".into()
        })?;
        expect(self.end == Some(End::Closed), || {
            format!("connection end {:?}", self.end)
        })
    }

    fn hold_aborted(&self, statuses: &[u16]) -> Result<(), String> {
        let complete = self.origin_messages.iter().any(Message::is_sound);
        expect(!complete, || "the origin saw a complete request".into())?;
        if self.finals.is_empty() {
            return expect(self.end.is_some(), || {
                "neither an answer nor a close".into()
            });
        }
        self.hold_error(statuses)
    }

    fn hold_count(&self, count: usize) -> Result<(), String> {
        let broken = self
            .origin_messages
            .iter()
            .find(|message| !message.is_sound());
        if let Some(message) = broken {
            return Err(format!(
                "the origin got {:?}, not sound: {:?}",
                message.start, message.fault
            ));
        }
        let got = self.origin_messages.len();
        expect(got == count, || {
            format!("{got} requests at the origin, not {count}")
        })
    }

    fn hold_origin_body(&self, body: &[u8]) -> Result<(), String> {
        let request = self.first_request()?;
        expect(request.is_sound(), || {
            format!(
                "the request at the origin is not sound: {:?}",
                request.fault
            )
        })?;
        expect(request.body == body, || {
            format!("body {} at the origin", shown(&request.body))
        })
    }

    fn hold_truncated(&self) -> Result<(), String> {
        let answer = self.first()?;
        let visible = !answer.complete || self.end == Some(End::Reset) || answer.status() == 502;
        expect(visible && self.end.is_some(), || {
            format!("{:?} looks whole, end {:?}", answer.start, self.end)
        })
    }

    fn hold_stays(&self, origin: &Origin) -> Result<(), String> {
        expect(self.end.is_none(), || {
            format!("the connection ended: {:?}", self.end)
        })?;
        let mut client = self.client.borrow_mut();
        let before = client.received().len();
        client.try_send(get(origin, "/again"));
        let deadline = Instant::now() + HANG;
        while client.end().is_none()
            && !contains(&client.received()[before..], b"origin-ok")
            && Instant::now() < deadline
        {
            client.fill(deadline);
        }
        let again = &client.received()[before..];
        expect(again.starts_with(b"HTTP/1.1 200 "), || {
            format!("the next request got {}", shown(again))
        })
    }
}

impl Case {
    /// Whether everything expected has arrived.
    fn is_answered(&self, received: &[u8]) -> bool {
        let (messages, _) = parse_all(received, &self.methods, false);
        let finals = messages
            .iter()
            .filter(|message| !message.is_interim() && message.is_sound())
            .count();
        let bytes = self.checks.iter().all(|check| match check {
            Check::ClientHas(bytes) => contains(received, bytes),
            _ => true,
        });
        finals >= self.methods.len() && bytes
    }
}

fn expect(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise()) }
}
