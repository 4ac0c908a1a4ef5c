//! TCP connections for plugins, to a name or an address, within a time that is kept.
//!
//! The addresses of a name are tried one after the other, IPv4 first, and each gets its share of the time that is left,
//! so that one that does not answer cannot use up what the others need. Speaking on the connection, and how long that
//! may take, is the plugin's.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// How long a connection may take to come about, looking up its name included, unless somebody says otherwise.
pub(super) const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// Connects to a host and a port, within 10 seconds.
///
/// The host is an address, IPv6 with brackets or without, or else a name: then its IPv4 addresses are tried before those
/// of IPv6. Blocks the thread: use it in [`run_blocking`](crate::run_blocking), in a subscriber or on a thread of your
/// own, and never in a hook itself. The socket has no timeouts of its own yet; see
/// [`TcpStream::set_read_timeout`].
///
/// ```
/// use plugin_api::utilities::new_socket_connection;
/// # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
/// # let port = listener.local_addr()?.port();
///
/// let conn = new_socket_connection(("127.0.0.1", port))?;
/// // ... use the connection ...
/// drop(conn);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// When there is no such name, or no address of it takes the connection in time. The error names the host, the port, and
/// each address that was tried with what became of it; its kind is that of the last attempt.
pub fn new_socket_connection(address: (&str, u16)) -> io::Result<TcpStream> {
    new_socket_connection_within(address, CONNECT_LIMIT)
}

/// As [`new_socket_connection`], within another time. Looking up the name counts.
///
/// ```
/// # use std::time::Duration;
/// use plugin_api::utilities::new_socket_connection_within;
/// # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
/// # let port = listener.local_addr()?.port();
///
/// let conn = new_socket_connection_within(("127.0.0.1", port), Duration::from_millis(500))?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// As [`new_socket_connection`].
pub fn new_socket_connection_within(
    (host, port): (&str, u16),
    limit: Duration,
) -> io::Result<TcpStream> {
    let time = TimeLeft::new(limit);
    let name = host_and_port(host, port);
    let addresses = addresses_of(host, port, &time)
        .map_err(|error| io::Error::new(error.kind(), format!("cannot resolve {name}: {error}")))?;
    connect_to_one_of(&addresses, &time)
        .map_err(|error| io::Error::new(error.kind(), format!("cannot connect to {name}: {error}")))
}

/// Connects, lets `work` use the connection, and closes it: when `work` returns, fails, or panics.
///
/// Where Python has a context manager, this is it:
///
/// ```
/// use plugin_api::utilities::socket_connection;
/// # use std::io::{Read, Write};
/// # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
/// # let port = listener.local_addr()?.port();
/// # let server = std::thread::spawn(move || listener.accept()?.0.write_all(b"hello"));
///
/// let greeting = socket_connection(("127.0.0.1", port), |conn| {
///     let mut greeting = String::new();
///     conn.read_to_string(&mut greeting)?;
///     Ok(greeting)
/// })?;
/// assert_eq!(greeting, "hello");
/// # server.join().unwrap()?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// And where it has a decorator, a function or a closure around it takes the other arguments; each call is a connection
/// of its own:
///
/// ```
/// use plugin_api::utilities::socket_connection;
/// # use std::io::{Read, Write};
/// # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
/// # let port = listener.local_addr()?.port();
/// # let server = std::thread::spawn(move || -> std::io::Result<()> {
/// #     for _ in 0..2 {
/// #         let (mut conn, _) = listener.accept()?;
/// #         let mut byte = [0; 1];
/// #         conn.read_exact(&mut byte)?;
/// #         conn.write_all(&[byte[0] + 1])?;
/// #     }
/// #     Ok(())
/// # });
///
/// let my_api_call = |question: u8| {
///     socket_connection(("127.0.0.1", port), |conn| {
///         conn.write_all(&[question])?;
///         let mut answer = [0; 1];
///         conn.read_exact(&mut answer)?;
///         Ok(answer[0])
///     })
/// };
/// assert_eq!(my_api_call(1)?, 2);
/// assert_eq!(my_api_call(7)?, 8);
/// # server.join().unwrap()?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// As [`new_socket_connection`], and whatever `work` fails with.
pub fn socket_connection<T>(
    address: (&str, u16),
    work: impl FnOnce(&mut TcpStream) -> io::Result<T>,
) -> io::Result<T> {
    let mut connection = new_socket_connection(address)?;
    work(&mut connection)
}

/// A time that several steps share.
pub(super) struct TimeLeft {
    since: Instant,
    limit: Duration,
}

impl TimeLeft {
    pub(super) fn new(limit: Duration) -> Self {
        Self {
            since: Instant::now(),
            limit,
        }
    }

    /// What is left of it, one of so many equal shares.
    ///
    /// # Errors
    /// When nothing is.
    pub(super) fn share(&self, shares: u32) -> io::Result<Duration> {
        let left = self.limit.saturating_sub(self.since.elapsed()) / shares.max(1);
        match left.is_zero() {
            true => Err(io::Error::new(io::ErrorKind::TimedOut, "timed out")),
            false => Ok(left),
        }
    }
}

/// Where to connect to, in the order of the attempts.
fn addresses_of(host: &str, port: u16, time: &TimeLeft) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = without_brackets(host).parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let mut addresses = resolve(host.to_owned(), port, time.share(1)?)?;
    addresses.sort_by_key(SocketAddr::is_ipv6);
    match addresses.is_empty() {
        true => Err(io::Error::new(io::ErrorKind::NotFound, "no addresses")),
        false => Ok(addresses),
    }
}

/// Asks the system's resolver. It knows no time limit, so it is left to a thread of its own, which ends by itself when
/// the resolver gives up.
fn resolve(host: String, port: u16, limit: Duration) -> io::Result<Vec<SocketAddr>> {
    let (answer, answered) = mpsc::sync_channel(1);
    thread::Builder::new()
        .name("resolve".to_owned())
        .spawn(move || {
            let addresses = (&*host, port).to_socket_addrs().map(Iterator::collect);
            // Nobody waits for it any more, maybe.
            drop(answer.send(addresses));
        })?;
    answered.recv_timeout(limit).unwrap_or_else(|_| {
        let text = format!("no response within {limit:.1?}");
        Err(io::Error::new(io::ErrorKind::TimedOut, text))
    })
}

fn connect_to_one_of(addresses: &[SocketAddr], time: &TimeLeft) -> io::Result<TcpStream> {
    let mut tried = Vec::new();
    let mut kind = io::ErrorKind::TimedOut;
    let shares = (1..=u32::try_from(addresses.len()).unwrap_or(u32::MAX)).rev();
    for (address, shares) in addresses.iter().zip(shares) {
        let attempt = time
            .share(shares)
            .and_then(|share| TcpStream::connect_timeout(address, share));
        match attempt {
            Ok(connection) => return Ok(connection),
            Err(error) => {
                kind = error.kind();
                tried.push(format!("{address} ({error})"));
            }
        }
    }
    Err(io::Error::new(kind, format!("tried {}", tried.join(", "))))
}

/// As it reads in an error; what is no host has no way to break a line.
fn host_and_port(host: &str, port: u16) -> String {
    let host = without_brackets(host);
    match host.contains(':') {
        true => format!("[{}]:{port}", host.escape_debug()),
        false => format!("{}:{port}", host.escape_debug()),
    }
}

fn without_brackets(host: &str) -> &str {
    host.strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::TcpListener;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    fn listener(address: &str) -> (TcpListener, u16) {
        let listener = TcpListener::bind((address, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        (listener, port)
    }

    /// A port that nobody listens at: its number is taken, and a connection to it is refused.
    fn closed_port() -> u16 {
        let (listener, port) = listener("127.0.0.1");
        drop(listener);
        port
    }

    #[test]
    fn connects_to_addresses_and_names() {
        let (listener, port) = listener("127.0.0.1");
        for host in ["127.0.0.1", "[127.0.0.1]", "localhost"] {
            let connection = new_socket_connection((host, port)).unwrap();
            let (_, peer) = listener.accept().unwrap();
            assert_eq!(connection.local_addr().unwrap(), peer, "{host}");
        }
    }

    #[test]
    fn ipv6_goes_with_brackets_and_without() {
        // Where the machine has no IPv6, there is nothing to connect to, but the host is understood all the same.
        for host in ["::1", "[::1]"] {
            match TcpListener::bind(("::1", 0)) {
                Ok(listener) => {
                    let port = listener.local_addr().unwrap().port();
                    assert!(new_socket_connection((host, port)).is_ok());
                }
                Err(_) => {
                    let error = new_socket_connection((host, 9)).unwrap_err().to_string();
                    assert!(error.starts_with("cannot connect to [::1]:9: "), "{error}");
                }
            }
        }
    }

    #[test]
    fn the_next_address_is_tried_where_one_fails() {
        let (listener, port) = listener("127.0.0.1");
        let addresses = [closed_port(), port].map(|port| ([127, 0, 0, 1], port).into());
        let time = TimeLeft::new(CONNECT_LIMIT);
        let connection = connect_to_one_of(&addresses, &time).unwrap();
        assert_eq!(
            connection.peer_addr().unwrap(),
            listener.local_addr().unwrap()
        );
    }

    #[test]
    fn an_error_names_host_port_and_what_was_tried() {
        let port = closed_port();
        let error = new_socket_connection(("localhost", port)).unwrap_err();
        let text = error.to_string();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        let start = format!("cannot connect to localhost:{port}: tried ");
        assert!(text.starts_with(&start), "{text}");
        assert!(text.contains(&format!("127.0.0.1:{port} (")), "{text}");
    }

    #[test]
    fn a_name_that_is_none_is_refused_on_one_line() {
        let error = new_socket_connection(("no\nhost\0", 80)).unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with(r"cannot resolve no\nhost\0:80: "),
            "{text}"
        );
    }

    #[test]
    fn no_time_is_an_error_and_all_of_it_is_none() {
        let (_listener, port) = listener("127.0.0.1");
        for host in ["127.0.0.1", "localhost"] {
            let late = new_socket_connection_within((host, port), Duration::ZERO).unwrap_err();
            assert_eq!(late.kind(), io::ErrorKind::TimedOut);
        }
        assert!(new_socket_connection_within(("localhost", port), Duration::MAX).is_ok());
    }

    #[test]
    fn ipv4_comes_before_ipv6() {
        let time = TimeLeft::new(CONNECT_LIMIT);
        let addresses = addresses_of("localhost", 1, &time).unwrap();
        assert!(addresses.is_sorted_by_key(SocketAddr::is_ipv6));
    }

    #[test]
    fn a_connection_is_closed_on_return_and_on_panic() {
        let (listener, port) = listener("127.0.0.1");
        let address = ("127.0.0.1", port);
        let accept = || {
            let (peer, _) = listener.accept().unwrap();
            peer.set_read_timeout(Some(CONNECT_LIMIT)).unwrap();
            peer
        };
        assert_eq!(socket_connection(address, |_| Ok(5)).unwrap(), 5);
        assert_eq!(accept().read(&mut [0]).unwrap(), 0);
        let panicking =
            || socket_connection(address, |_| -> io::Result<()> { panic!("on purpose") });
        assert!(catch_unwind(AssertUnwindSafe(panicking)).is_err());
        assert_eq!(accept().read(&mut [0]).unwrap(), 0);
    }
}
