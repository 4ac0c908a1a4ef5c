//! The kill test: ten thousand requests over a hundred connections, against origins that reset, stall and truncate.
//!
//! Every response is complete and correct, or visibly failed. Nothing outlives its deadline, and no descriptor leaks.
//! The faults come from a seeded generator, so that a failure can be reproduced.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{OK, Origin, Peer, Proxy, Role, pattern};

const CLIENTS: u64 = 100;
const REQUESTS: u64 = 100;
const SEED: u64 = 0x5eed;

/// The longest time that anything may take: the sum of the proxy's deadlines below, with a margin for a busy machine.
const PATIENCE: Duration = Duration::from_secs(8);
const DEADLINES: &str = "[timeouts]\nheader_read = 1\nidle = 2\nconnect = 1\nupstream_response = 0.4\nupstream_idle = 0.4";

/// A small random number generator; the same seed gives the same faults.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % sides
    }
}

/// The origin's response to `/<number>` without a fault; length and content depend on the number.
fn content(number: u64) -> Vec<u8> {
    let len = Dice(number).roll(30_000) as usize;
    let mut body = format!("<{number}>").into_bytes();
    body.extend(pattern(len));
    body
}

/// Answers most requests correctly; the request's number selects the fault.
fn unreliable(peer: &mut Peer) {
    while let Some(request) = peer.request() {
        let number: u64 = request
            .target()
            .trim_start_matches('/')
            .parse()
            .expect("the path is a number");
        let mut dice = Dice(SEED ^ number.wrapping_mul(31) ^ peer.index() as u64);
        let body = content(number);
        let head = match number % 3 {
            0 => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(),
            _ => format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()),
        };
        let mut wire = head.into_bytes();
        if number.is_multiple_of(3) {
            body.chunks(4000).for_each(|chunk| {
                wire.extend([format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat())
            });
            wire.extend(b"0\r\n\r\n");
        } else {
            wire.extend(&body);
        }
        let cut = dice.roll(wire.len() as u64) as usize;
        match dice.roll(100) {
            0..4 => return peer.reset(),
            4..8 => {
                peer.send(&wire[..cut]);
                return peer.reset();
            }
            8..14 => {
                peer.send(&wire[..cut]);
                return;
            }
            14..16 => {
                peer.send(&wire[..cut]);
                return peer.park();
            }
            16 => return peer.park(),
            17..19 => {
                peer.send("HTTP/1.1 two hundred\r\n\r\n");
                return;
            }
            19..24 => {
                peer.send(&wire);
                return peer.reset();
            }
            24..30 => {
                peer.send(&wire);
                return;
            }
            _ => peer.send(&wire),
        };
    }
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Clone, Copy)]
enum Outcome {
    Right,
    BadGateway,
    GatewayTimeout,
    BrokenOff,
    WrongBytes,
    Hang,
    OtherStatus(u16),
}

#[test]
fn every_answer_is_right_or_visibly_broken() {
    let origin = Origin::serve(unreliable);
    let proxy = Proxy::command()
        .args(["--num-workers", "2"])
        .config(DEADLINES)
        .start();
    assert_eq!(proxy.get(&Origin::answering(OK), "/").status(), 200);
    let base = proxy.open_files();
    let outcomes = Mutex::new(BTreeMap::<Outcome, usize>::new());
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (address, origin, outcomes) = (proxy.address(), &origin, &outcomes);
            scope.spawn(move || {
                let counted = play(address, origin, client);
                let mut outcomes = outcomes.lock().expect("no client panics while it counts");
                counted
                    .into_iter()
                    .for_each(|(outcome, count)| *outcomes.entry(outcome).or_default() += count);
            });
        }
    });
    let outcomes = outcomes
        .into_inner()
        .expect("no client panics while it counts");
    let total: usize = outcomes.values().sum();
    let visible = |outcome: &Outcome| {
        !matches!(
            outcome,
            Outcome::WrongBytes | Outcome::Hang | Outcome::OtherStatus(_)
        )
    };
    assert_eq!(total as u64, CLIENTS * REQUESTS, "{outcomes:?}");
    assert!(outcomes.keys().all(visible), "{outcomes:?}");
    assert!(outcomes[&Outcome::Right] * 10 > total * 6, "{outcomes:?}");
    drop(origin);
    assert_eq!(
        proxy.get(&Origin::answering(OK), "/").status(),
        200,
        "alive after {outcomes:?}"
    );
    // Connections to the last two origins may still be pooled or closing.
    let open = proxy.wait_for_open_files(base);
    assert!(open <= base, "{open} descriptors, {base} at the start");
}

/// Runs one client: it reuses its connection until that closes, then opens another.
fn play(address: SocketAddr, origin: &Origin, client: u64) -> BTreeMap<Outcome, usize> {
    let mut outcomes = BTreeMap::new();
    let mut connection: Option<TcpStream> = None;
    for turn in 0..REQUESTS {
        let number = client * REQUESTS + turn;
        let stream = connection
            .get_or_insert_with(|| TcpStream::connect(address).expect("the proxy accepts"));
        let (outcome, is_reusable) = ask(stream, origin, number);
        *outcomes.entry(outcome).or_default() += 1;
        if !is_reusable {
            connection = None;
        }
    }
    outcomes
}

fn ask(stream: &mut TcpStream, origin: &Origin, number: u64) -> (Outcome, bool) {
    let request = crate::support::get(origin, &format!("/{number}"));
    let deadline = Instant::now() + PATIENCE;
    if stream.write_all(request.as_bytes()).is_err() {
        return (Outcome::BrokenOff, false);
    }
    let (mut received, mut buffer, mut has_ended) = (Vec::new(), [0; 16384], false);
    loop {
        let message = crate::support::parse(&received, Role::Response("GET"), has_ended);
        if let Some(message) = message.filter(|message| message.complete || message.fault.is_some())
        {
            let keeps = message.field("Connection").is_none()
                && !has_ended
                && message.len == received.len();
            return (judge(&message, number), keeps);
        }
        if has_ended {
            return (Outcome::BrokenOff, false);
        }
        let left = deadline
            .saturating_duration_since(Instant::now())
            .max(Duration::from_millis(1));
        stream
            .set_read_timeout(Some(left))
            .expect("a TCP socket has this option");
        match stream.read(&mut buffer) {
            Ok(0) => has_ended = true,
            Ok(len) => received.extend_from_slice(&buffer[..len]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return (Outcome::Hang, false);
            }
            Err(_) => return (Outcome::BrokenOff, false),
        }
    }
}

fn judge(message: &crate::support::Message, number: u64) -> Outcome {
    match message.status() {
        200 if message.is_sound() && message.body == content(number) => Outcome::Right,
        200 => Outcome::WrongBytes,
        502 => Outcome::BadGateway,
        504 => Outcome::GatewayTimeout,
        other => Outcome::OtherStatus(other),
    }
}
