//! The listening sockets that a service manager has opened for this process: systemd's socket activation
//! (sd_listen_fds(3)).
//!
//! They begin at descriptor 3; LISTEN_FDS is their number, LISTEN_PID the process for which they are, and LISTEN_FDNAMES
//! their names. Which listener of the configuration gets which socket is decided here as well, by names or by order.

use std::io;
use std::os::fd::OwnedFd;

use crate::passed_sockets::PassedSocket;

/// The first descriptor that is passed.
const FIRST_DESCRIPTOR: usize = 3;

/// More are never passed; a larger number is a mistake.
const MAX_SOCKETS: usize = 1024;

/// A socket that was passed.
#[derive(Debug)]
pub struct InheritedSocket {
    /// Its name: `FileDescriptorName=` in the unit, by default the name of the unit.
    pub(crate) name: String,
    pub(crate) socket: PassedSocket,
}

/// Why the sockets cannot be used. Each names what was passed.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum InheritedError {
    #[error(
        "LISTEN_FDS passes sockets to process {expected}, but this is process {own}; start the proxy directly, or with \
         `exec` in the script that starts it"
    )]
    OtherProcess { expected: String, own: u32 },
    #[error(
        "LISTEN_FDS is `{0}`, which is not a number of sockets up to {MAX_SOCKETS}; unset it, or correct it"
    )]
    Number(String),
    #[error(
        "LISTEN_FDNAMES has {names} names for {sockets} sockets; unset it, or name all of them"
    )]
    Names { names: usize, sockets: usize },
    #[error(
        "descriptor {descriptor} ({name}), which LISTEN_FDS passes, is not a listening stream socket: {source}; use \
         ListenStream= in the socket unit"
    )]
    Socket {
        descriptor: usize,
        name: String,
        source: io::Error,
    },
    #[error(
        "LISTEN_FDS passes {sockets} sockets ({names}) for {listeners} listeners; give them the names of the listeners \
         with FileDescriptorName= in the socket unit"
    )]
    Unassigned {
        sockets: usize,
        names: String,
        listeners: usize,
    },
    #[error(
        "no listener has the name of the socket `{name}`, which LISTEN_FDS passes; the other names are those of \
         listeners: correct FileDescriptorName= in the socket unit"
    )]
    UnknownName { name: String },
}

/// The variables of the protocol.
#[derive(Debug, Default)]
struct Variables {
    count: Option<String>,
    process: Option<String>,
    names: Option<String>,
}

impl Variables {
    /// The name of each socket that is passed to the process `own`.
    fn sockets(&self, own: u32) -> Result<Vec<String>, InheritedError> {
        let Some(count) = &self.count else {
            return Ok(Vec::new());
        };
        let expected = self.process.as_deref().filter(|pid| !pid.is_empty());
        if let Some(expected) = expected
            && expected.parse() != Ok(own)
        {
            return Err(InheritedError::OtherProcess {
                expected: expected.to_owned(),
                own,
            });
        }
        let parsed = count.parse().ok().filter(|count| *count <= MAX_SOCKETS);
        let count: usize = parsed.ok_or_else(|| InheritedError::Number(count.clone()))?;
        let Some(names) = self.names.as_deref().filter(|names| !names.is_empty()) else {
            return Ok(vec!["unknown".to_owned(); count]);
        };
        let names: Vec<String> = names.split(':').map(str::to_owned).collect();
        match names.len() == count {
            true => Ok(names),
            false => Err(InheritedError::Names {
                names: names.len(),
                sockets: count,
            }),
        }
    }
}

/// Takes the sockets that were passed to this process, and removes LISTEN_FDS and LISTEN_PID, so that no child takes them
/// for its own. To be called before there are threads.
///
/// # Errors
/// They are for another process, or cannot be used.
pub fn take() -> Result<Vec<InheritedSocket>, InheritedError> {
    let text = |name| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
    let variables = Variables {
        count: text("LISTEN_FDS"),
        process: text("LISTEN_PID"),
        names: text("LISTEN_FDNAMES"),
    };
    let names = variables.sockets(std::process::id())?;
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let mut passed = listenfd::ListenFd::from_env();
    let sockets = names.into_iter().enumerate().map(|(index, name)| {
        let taken = take_socket(&mut passed, index);
        match taken.and_then(PassedSocket::new) {
            Ok(socket) => Ok(InheritedSocket { name, socket }),
            Err(source) => Err(InheritedError::Socket {
                descriptor: FIRST_DESCRIPTOR + index,
                name,
                source,
            }),
        }
    });
    sockets.collect()
}

fn take_socket(passed: &mut listenfd::ListenFd, index: usize) -> io::Result<OwnedFd> {
    let tcp = passed.take_tcp_listener(index);
    let taken = match tcp {
        Ok(socket) => socket.map(OwnedFd::from),
        Err(_) => passed.take_unix_listener(index)?.map(OwnedFd::from),
    };
    taken.ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// The listener, by its position, of each socket. `listeners` and `sockets` are their names.
///
/// By names, if any socket has the name of a listener; several sockets may belong to one. Otherwise in order; a single
/// listener gets all sockets.
///
/// # Errors
/// A socket belongs to no listener.
pub(crate) fn assign(listeners: &[&str], sockets: &[&str]) -> Result<Vec<usize>, InheritedError> {
    let named: Vec<Option<usize>> = sockets
        .iter()
        .map(|socket| listeners.iter().position(|listener| listener == socket))
        .collect();
    if named.iter().all(Option::is_none) {
        return assign_in_order(listeners.len(), sockets);
    }
    let by_name = named.into_iter().zip(sockets).map(|(listener, socket)| {
        listener.ok_or_else(|| InheritedError::UnknownName {
            name: (*socket).to_owned(),
        })
    });
    by_name.collect()
}

fn assign_in_order(listeners: usize, sockets: &[&str]) -> Result<Vec<usize>, InheritedError> {
    match (listeners, sockets.len()) {
        (_, 0) => Ok(Vec::new()),
        (1, sockets) => Ok(vec![0; sockets]),
        (listeners, sockets) if listeners == sockets => Ok((0..sockets).collect()),
        _ => Err(InheritedError::Unassigned {
            sockets: sockets.len(),
            names: sockets.join(", "),
            listeners,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(count: &str, process: &str, names: &str) -> Result<Vec<String>, String> {
        let given = |text: &str| (text != "-").then(|| text.to_owned());
        let variables = Variables {
            count: given(count),
            process: given(process),
            names: given(names),
        };
        variables.sockets(7).map_err(|error| error.to_string())
    }

    #[test]
    fn sockets_are_named_by_the_environment() {
        assert_eq!(passed("-", "7", "a"), Ok(vec![]));
        assert_eq!(passed("0", "7", "-"), Ok(vec![]));
        assert_eq!(passed("2", "7", "a:b").unwrap(), ["a", "b"]);
        assert_eq!(passed("2", "7", "a:").unwrap(), ["a", ""]);
        assert_eq!(passed("1", "-", "-").unwrap(), ["unknown"]);
        assert_eq!(passed("1", "", "").unwrap(), ["unknown"]);
    }

    #[test]
    fn an_unusable_environment_is_named() {
        for (count, process, names, reason) in [
            (
                "1",
                "8",
                "-",
                "passes sockets to process 8, but this is process 7",
            ),
            ("1", "x", "-", "passes sockets to process x"),
            ("one", "7", "-", "LISTEN_FDS is `one`"),
            ("-1", "7", "-", "LISTEN_FDS is `-1`"),
            ("1025", "7", "-", "up to 1024"),
            ("2", "7", "a", "LISTEN_FDNAMES has 1 names for 2 sockets"),
        ] {
            let error = passed(count, process, names).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn sockets_belong_to_listeners_by_name_or_by_order() {
        let listener = |listeners: &[&str], sockets: &[&str]| assign(listeners, sockets).ok();
        assert_eq!(listener(&["a"], &["proxy.socket"]), Some(vec![0]));
        assert_eq!(listener(&["a"], &["unknown", "unknown"]), Some(vec![0, 0]));
        assert_eq!(listener(&["a", "b"], &["x", "x"]), Some(vec![0, 1]));
        assert_eq!(listener(&["a", "b"], &["b", "a"]), Some(vec![1, 0]));
        assert_eq!(listener(&["a", "b"], &["b", "b"]), Some(vec![1, 1]));
        assert_eq!(listener(&["a", "b"], &["b"]), Some(vec![1]));
        assert_eq!(listener(&["a", "b"], &["b", "x"]), None);
        assert_eq!(listener(&["a", "b"], &["x"]), None);
        assert_eq!(listener(&["a"], &[]), Some(vec![]));
        assert_eq!(listener(&["a", "b"], &[]), Some(vec![]));
        let error = assign(&["a", "b"], &["x", "y", "x"])
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("LISTEN_FDS passes 3 sockets (x, y, x) for 2 listeners;"),
            "{error}"
        );
    }
}
