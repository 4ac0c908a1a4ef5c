//! TCP connections for plugins, to a name or an address, with a strict time limit.
//!
//! The addresses of a name are tried one after the other, IPv4 first, and each gets its share of the remaining time, so
//! that an unresponsive one cannot use up the time of the others. The plugin sets timeouts for the connection itself.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// The default time limit for a connection, including name resolution.
pub(super) const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// Connects to a host and a port, within 10 seconds.
///
/// The host is an address (IPv6 with or without brackets) or a name, whose IPv4 addresses are tried before its IPv6
/// addresses. Blocks the thread: use it in [`run_blocking`](crate::run_blocking), in a subscriber or on your own
/// thread, and never in a hook itself. The socket has no timeouts yet; see [`TcpStream::set_read_timeout`].
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
/// There is no such name, or none of its addresses accepts the connection in time. The error names the host, the port,
/// and each address that was tried with its error; its kind is that of the last attempt.
pub fn new_socket_connection(address: (&str, u16)) -> io::Result<TcpStream> {
    new_socket_connection_within(address, CONNECT_LIMIT)
}

/// Like [`new_socket_connection`], within another time. Name resolution counts.
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

/// Connects, calls `work` with the connection, and closes it when `work` returns, fails, or panics.
///
/// Like a context manager in Python:
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
/// To pass other arguments, write a function or a closure around it, like a decorator; each call uses a connection of
/// its own:
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
/// Those of [`new_socket_connection`], and those of `work`.
pub fn socket_connection<T>(
    address: (&str, u16),
    work: impl FnOnce(&mut TcpStream) -> io::Result<T>,
) -> io::Result<T> {
    let mut connection = new_socket_connection(address)?;
    work(&mut connection)
}

/// A time limit that several steps share.
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

    /// The remaining time, divided into so many equal shares.
    ///
    /// # Errors
    /// None is left.
    pub(super) fn share(&self, shares: u32) -> io::Result<Duration> {
        let left = self.limit.saturating_sub(self.since.elapsed()) / shares.max(1);
        match left.is_zero() {
            true => Err(io::Error::new(io::ErrorKind::TimedOut, "timed out")),
            false => Ok(left),
        }
    }
}

/// The addresses to connect to, in order.
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

/// Calls the system's resolver. It has no time limit, so it runs on a thread of its own, which ends when the resolver
/// returns.
fn resolve(host: String, port: u16, limit: Duration) -> io::Result<Vec<SocketAddr>> {
    let (answer, answered) = mpsc::sync_channel(1);
    thread::Builder::new()
        .name("resolve".to_owned())
        .spawn(move || {
            let addresses = (&*host, port).to_socket_addrs().map(Iterator::collect);
            // The caller may have stopped waiting.
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

/// Host and port for an error; characters that could break the line are escaped.
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

    /// A port on which nothing listens: it is taken, and connections to it are refused.
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
    fn ipv6_is_accepted_with_and_without_brackets() {
        // If the machine has no IPv6, connecting fails, but the host is valid.
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
    fn the_next_address_is_tried_if_one_fails() {
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
    fn an_invalid_name_is_refused_in_one_line() {
        let error = new_socket_connection(("no\nhost\0", 80)).unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with(r"cannot resolve no\nhost\0:80: "),
            "{text}"
        );
    }

    #[test]
    fn a_zero_timeout_is_an_error_and_the_longest_works() {
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
