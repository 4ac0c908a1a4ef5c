//! Client and origin receive exactly the body that one plugin or a chain of plugins produced.

use super::{Framed, edited, editors, orders, post, text};
use crate::support::{Framing, Message, Origin, Proxy, shown};

const SIZES: [usize; 5] = [0, 1, 100, 65_536, 65_537];

const REQUESTS: [Framed; 2] = [Framed::Length, Framed::Chunked];
const RESPONSES: [Framed; 3] = [Framed::Length, Framed::Chunked, Framed::UntilClose];

/// Framing and length of both bodies of one exchange.
#[derive(Clone, Copy, Debug)]
struct Case {
    request: Framed,
    response: Framed,
    len: usize,
}

fn cases(sizes: &[usize]) -> Vec<Case> {
    let mut cases = Vec::new();
    for &len in sizes {
        for request in REQUESTS {
            for response in RESPONSES {
                cases.push(Case {
                    request,
                    response,
                    len,
                });
            }
        }
    }
    cases
}

/// The framing that the client must receive.
fn outgoing(chain: &[&str], case: Case) -> Framing {
    match case.response {
        _ if chain.iter().any(|orders| orders.starts_with("whole")) => Framing::Length,
        Framed::Length if case.len == 0 => Framing::Length,
        _ => Framing::Chunked,
    }
}

fn assert_same(is: &Message, wanted: &[u8], told: &str) {
    assert!(is.is_sound(), "{told}: {:?}", is.fault);
    assert!(
        is.body == wanted,
        "{told}: {} instead of {}",
        shown(&is.body),
        shown(wanted)
    );
}

/// Runs every case on one client connection.
fn assert_exact(proxy: &Proxy, chain: &[&str]) {
    let cases = cases(&SIZES);
    let for_origin = cases.clone();
    let origin = Origin::serve(move |peer| {
        while let Some(request) = peer.request() {
            let number: usize = request.target()[1..].parse().expect("the path is a number");
            let case = for_origin[number];
            let head = "HTTP/1.1 200 OK\r\n";
            peer.send(case.response.message(head, &text(case.len)));
            if case.response == Framed::UntilClose {
                return;
            }
        }
    });
    let mut client = proxy.client();
    for (number, &case) in cases.iter().enumerate() {
        let told = format!("{chain:?} {case:?}");
        let head = post(&origin, &format!("/{number}"), &orders(chain));
        client.send(case.request.message(&head, &text(case.len)));
        let answer = client.response_to("POST");
        assert_same(&answer, &edited(chain, &text(case.len)), &told);
        assert_eq!(answer.framing, outgoing(chain, case), "{told}");
    }
    let requests = origin.requests();
    assert_eq!(requests.len(), cases.len(), "{chain:?}");
    for request in requests {
        let number: usize = request.target()[1..].parse().expect("the path is a number");
        let (case, wanted) = (cases[number], edited(chain, &text(cases[number].len)));
        let told = format!("the request of {chain:?} {case:?}");
        assert_same(&request, &wanted, &told);
    }
    // The last case is one of them, so no origin connection is left open.
    let ended = cases
        .iter()
        .filter(|case| case.response == Framed::UntilClose);
    assert_eq!(
        origin.connections().len(),
        ended.count(),
        "{chain:?}: only those end that have to"
    );
}

#[test]
fn by_one_plugin_are_exact() {
    let proxy = editors().start();
    for how in ["stream", "whole"] {
        for edit in ["pass", "upper", "drop", "append", "replace"] {
            assert_exact(&proxy, &[&format!("{how} {edit}")]);
        }
    }
}

#[test]
fn by_two_plugins_are_exact() {
    let proxy = editors().start();
    for hows in [
        ["stream", "stream"],
        ["stream", "whole"],
        ["whole", "stream"],
        ["whole", "whole"],
    ] {
        for edits in [
            ["append", "append"],
            ["upper", "append"],
            ["drop", "append"],
            ["append", "replace"],
            ["replace", "upper"],
        ] {
            let chain = [0, 1].map(|at| format!("{} {}", hows[at], edits[at]));
            assert_exact(&proxy, &[&chain[0], &chain[1]]);
        }
    }
}

#[test]
fn by_three_plugins_are_exact() {
    let proxy = editors().start();
    for chain in [
        ["stream append", "whole append", "stream append"],
        ["whole append", "stream upper", "whole append"],
        ["stream drop", "stream append", "whole append"],
        ["whole replace", "skip", "stream append"],
        ["skip", "whole append", "skip"],
        ["stream append", "stream append", "stream replace"],
    ] {
        assert_exact(&proxy, &chain);
    }
}

const SPLIT_CHAINS: [&[&str]; 4] = [
    &["stream append"],
    &["whole append"],
    &["stream upper", "whole append"],
    &["stream append", "stream replace"],
];

#[test]
fn of_requests_are_exact_at_every_split() {
    let proxy = editors().start();
    for chain in SPLIT_CHAINS {
        for framed in REQUESTS {
            let origin = Origin::replying(|request| {
                Framed::Length.message("HTTP/1.1 200 OK\r\n", &request.body)
            });
            let message = framed.message(&post(&origin, "/", &orders(chain)), &text(23));
            let wanted = edited(chain, &edited(chain, &text(23)));
            let mut client = proxy.client();
            for cut in 1..message.len() {
                client.send(&message[..cut]);
                client.send(&message[cut..]);
                let told = format!("{chain:?}, {framed:?}, cut at {cut}");
                assert_same(&client.response_to("POST"), &wanted, &told);
            }
            client.dribble(&message);
            assert_same(&client.response_to("POST"), &wanted, "byte by byte");
            assert_eq!(origin.requests().len(), message.len());
        }
    }
}

#[test]
fn of_responses_are_exact_at_every_split() {
    let proxy = editors().start();
    for chain in SPLIT_CHAINS {
        for framed in RESPONSES {
            let message = framed.message("HTTP/1.1 200 OK\r\n", &text(23));
            let len = message.len();
            let origin = Origin::serve(move |peer| {
                while let Some(request) = peer.request() {
                    let cut: usize = request.target()[1..].parse().expect("the path is a number");
                    peer.send(&message[..cut]);
                    peer.send(&message[cut..]);
                    if framed == Framed::UntilClose {
                        return;
                    }
                }
            });
            let mut client = proxy.client();
            for cut in 1..len {
                let told = format!("{chain:?}, {framed:?}, cut at {cut}");
                client.send(post(&origin, &format!("/{cut}"), &orders(chain)) + "\r\n");
                let answer = client.response_to("POST");
                assert_same(&answer, &edited(chain, &text(23)), &told);
            }
        }
    }
}
