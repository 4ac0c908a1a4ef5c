//! The command line as it is written, made into the one that clap reads.
//!
//! Names of flags may be cut short, and a flag that takes a list takes all words up to the next flag, as users of
//! proxy.py have it. What is no flag is refused here, because clap's guesses are wrong too often: a flag of proxy.py that
//! does not exist here is answered with what replaces it. What follows a command is left as it is.

use std::ffi::{OsStr, OsString};
use std::iter::Peekable;

use clap::Command;
use thiserror::Error;

use super::replaced;
use crate::config::closest;

/// Flags that take several words.
const LISTS: [&str; 3] = ["plugins", "hostnames", "ports"];

/// The flags of proxy.py 2.0. A short form of only one of them means that one, whatever flags have come since: scripts
/// use such forms, and a new flag must not break them.
const FIRST: [&str; 32] = [
    "help",
    "backlog",
    "basic-auth",
    "ca-key-file",
    "ca-cert-dir",
    "ca-cert-file",
    "ca-signing-key-file",
    "cert-file",
    "client-recvbuf-size",
    "devtools-ws-path",
    "disable-headers",
    "disable-http-proxy",
    "enable-devtools",
    "enable-events",
    "enable-static-server",
    "enable-web-server",
    "hostname",
    "key-file",
    "log-level",
    "log-file",
    "log-format",
    "num-workers",
    "open-file-limit",
    "pac-file",
    "pac-file-url-path",
    "pid-file",
    "plugins",
    "port",
    "server-recvbuf-size",
    "static-server-dir",
    "threadless",
    "timeout",
];

/// Why a flag cannot be used.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ArgumentError {
    /// It is short for several.
    #[error("'--{written}' may be {}; write more of it", either(.names))]
    Ambiguous {
        /// As it was given.
        written: String,
        /// What it may be.
        names: Vec<String>,
    },
    /// It is one of proxy.py that does not exist here.
    #[error("there is no flag --{name}: {instead}")]
    Replaced {
        /// Its whole name.
        name: &'static str,
        /// What to do.
        instead: &'static str,
    },
    /// It is none.
    #[error("there is no flag --{written}; {}", match .meant {
        Some(meant) => format!("did you mean --{meant}?"),
        None => "see proxy --help".to_owned(),
    })]
    Unknown {
        /// As it was given.
        written: String,
        /// The flag that is most like it.
        meant: Option<String>,
    },
}

fn either(names: &[String]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("--{name}")).collect();
    match names.split_last() {
        Some((last, others)) if !others.is_empty() => format!("{} or {last}", others.join(", ")),
        _ => names.concat(),
    }
}

/// The arguments, the program's name first, with every flag before a command written out.
///
/// # Errors
/// The first flag that is none, or may be several.
pub(super) fn written_out(
    command: &Command,
    args: impl IntoIterator<Item = OsString>,
) -> Result<Vec<OsString>, ArgumentError> {
    let known = Known::of(command);
    let mut args = args.into_iter().peekable();
    let mut out: Vec<OsString> = args.next().into_iter().collect();
    while let Some(arg) = args.next() {
        let is_end = arg == "--" || known.is_command(&arg);
        match arg.to_str().and_then(long_flag) {
            Some((name, value)) if !is_end => {
                let flag = known.find(name)?;
                write_out(flag, value, &mut args, &known, &mut out);
            }
            _ => out.push(arg),
        }
        if is_end {
            break;
        }
    }
    out.extend(args);
    Ok(out)
}

/// Name and value of `--name=value`.
fn long_flag(arg: &str) -> Option<(&str, Option<&str>)> {
    let flag = arg.strip_prefix("--").filter(|flag| !flag.is_empty())?;
    Some(match flag.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (flag, None),
    })
}

/// Writes a flag and its values.
fn write_out(
    flag: &Flag,
    value: Option<&str>,
    args: &mut Peekable<impl Iterator<Item = OsString>>,
    known: &Known,
    out: &mut Vec<OsString>,
) {
    let name = flag.name;
    if let Some(value) = value {
        out.push(format!("--{name}={value}").into());
        return;
    }
    match flag.takes {
        Takes::Nothing => out.push(format!("--{name}").into()),
        Takes::One => {
            out.push(format!("--{name}").into());
            out.extend(args.next());
        }
        Takes::List => {
            let first = args.next_if(|arg| !is_flag(arg));
            // Without a value, clap says so.
            let Some(first) = first else {
                return out.push(format!("--{name}").into());
            };
            let mut put = |value: OsString| {
                let mut arg = OsString::from(format!("--{name}="));
                arg.push(value);
                out.push(arg);
            };
            put(first);
            while let Some(value) = args.next_if(|arg| !is_flag(arg) && !known.is_command(arg)) {
                put(value);
            }
        }
    }
}

fn is_flag(arg: &OsStr) -> bool {
    arg.as_encoded_bytes().starts_with(b"-")
}

/// What may be written.
struct Known<'c> {
    command: &'c Command,
    flags: Vec<Flag<'c>>,
}

/// A name of a flag.
#[derive(Clone, Copy)]
struct Flag<'c> {
    written: &'c str,
    /// The name in the help, if `written` is another one.
    name: &'c str,
    takes: Takes,
}

#[derive(Clone, Copy)]
enum Takes {
    Nothing,
    /// Its value is the next word, if it has to have one.
    One,
    /// All words up to the next flag or a command are values.
    List,
}

impl<'c> Known<'c> {
    fn of(command: &'c Command) -> Self {
        let flags = command.get_arguments().filter_map(|arg| {
            let name = arg.get_long()?;
            let must_have = arg
                .get_num_args()
                .is_none_or(|number| number.min_values() > 0);
            let takes = match arg.get_action().takes_values() && must_have {
                _ if LISTS.contains(&name) => Takes::List,
                true => Takes::One,
                false => Takes::Nothing,
            };
            let aliases = arg.get_all_aliases().unwrap_or_default();
            let names = [name].into_iter().chain(aliases);
            Some(names.map(move |written| Flag {
                written,
                name,
                takes,
            }))
        });
        Self {
            command,
            flags: flags.flatten().collect(),
        }
    }

    fn is_command(&self, arg: &OsStr) -> bool {
        arg == "help" || self.command.find_subcommand(arg).is_some()
    }

    /// The flag of this name, or the only one whose name begins so.
    fn find(&self, written: &str) -> Result<&Flag<'c>, ArgumentError> {
        if let Some(flag) = self.flags.iter().find(|flag| flag.written == written) {
            return Ok(flag);
        }
        let begins = |name: &str| name.starts_with(written);
        let mut fits: Vec<&Flag> = self.flags.iter().filter(|f| begins(f.written)).collect();
        fits.dedup_by_key(|flag| flag.name);
        let mut of_first = fits.iter().filter(|flag| FIRST.contains(&flag.name));
        if let (Some(flag), None) = (of_first.next(), of_first.next()) {
            return Ok(flag);
        }
        let mut replaced = replaced::beginning_with(written);
        if let Some(exact) = replaced.iter().position(|(name, _)| *name == written) {
            replaced = vec![replaced.swap_remove(exact)];
            fits.clear();
        }
        match (fits.as_slice(), replaced.as_slice()) {
            ([flag], []) => Ok(flag),
            ([], [(name, instead)]) => Err(ArgumentError::Replaced { name, instead }),
            ([], []) => Err(self.unknown(written)),
            (fits, replaced) => {
                let fits = fits.iter().map(|flag| flag.name);
                let names = fits.chain(replaced.iter().map(|(name, _)| *name));
                Err(ArgumentError::Ambiguous {
                    written: written.to_owned(),
                    names: names.map(str::to_owned).collect(),
                })
            }
        }
    }

    fn unknown(&self, written: &str) -> ArgumentError {
        let names: Vec<&str> = self.flags.iter().map(|flag| flag.written).collect();
        ArgumentError::Unknown {
            written: written.to_owned(),
            meant: closest(written, &names).map(str::to_owned),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn read(line: &str) -> Result<String, String> {
        let args = ["proxy"].into_iter().chain(line.split_whitespace());
        let mut command = super::super::Cli::command();
        command.build();
        let out = written_out(&command, args.map(OsString::from));
        let out = out.map_err(|error| error.to_string())?;
        let out: Vec<_> = out.iter().map(|arg| arg.to_str().unwrap()).collect();
        Ok(out[1..].join(" "))
    }

    #[test]
    fn names_may_be_cut_short() {
        for (line, written) in [
            ("--host ::1 --po=0", "--hostname ::1 --port=0"),
            ("--ca-signing-key a.pem", "--ca-signing-key-file a.pem"),
            ("--plugin a.so:A", "--plugins=a.so:A"),
            ("--log-l d -v", "--log-level d -v"),
            ("--num=3", "--num-workers=3"),
            ("--he", "--help"),
            // A value is no flag.
            ("--log-file --host", "--log-file --host"),
            // What follows a command belongs to it.
            ("--po 1 check --fi", "--port 1 check --fi"),
            ("--conf check --po 1", "--config check --port 1"),
            ("-- --po 1", "-- --po 1"),
            ("help --po", "help --po"),
        ] {
            assert_eq!(read(line).as_deref(), Ok(written), "{line}");
        }
    }

    #[test]
    fn a_short_form_of_a_flag_of_the_first_version_goes_on_to_mean_it() {
        for name in FIRST {
            for end in 1..=name.len() {
                let written = &name[..end];
                let is_only = FIRST
                    .iter()
                    .filter(|other| other.starts_with(written))
                    .count()
                    == 1;
                if is_only && written != "plugin" {
                    let full = read(&format!("--{written}=x"));
                    assert_eq!(full, Ok(format!("--{name}=x")), "{written}");
                }
            }
        }
    }

    #[test]
    fn a_list_takes_the_words_up_to_a_flag_or_a_command() {
        for (line, written) in [
            ("--plugins a b --port 1", "--plugins=a --plugins=b --port 1"),
            (
                "--plugins a,b c check x",
                "--plugins=a,b --plugins=c check x",
            ),
            ("--plugin a --plugin b", "--plugins=a --plugins=b"),
            ("--plugins=a b", "--plugins=a b"),
            ("--plugins --port 1", "--plugins --port 1"),
            ("--plugins", "--plugins"),
            ("--ports 1 2 --port 3", "--ports=1 --ports=2 --port 3"),
        ] {
            assert_eq!(read(line).as_deref(), Ok(written), "{line}");
        }
    }

    #[test]
    fn a_flag_that_is_none_is_refused_with_what_may_help() {
        for (line, error) in [
            ("--prt 1", "there is no flag --prt; did you mean --port?"),
            (
                "--plugn a",
                "there is no flag --plugn; did you mean --plugin?",
            ),
            ("--colour", "there is no flag --colour; see proxy --help"),
            (
                "--ca-cert x",
                "'--ca-cert' may be --ca-cert-file or --ca-cert-dir; write more of it",
            ),
        ] {
            assert_eq!(read(line), Err(error.to_owned()), "{line}");
        }
        let replaced = read("--proxy-p 127.0.0.1:1").unwrap_err();
        assert!(
            replaced.starts_with("there is no flag --proxy-pool: ")
                && replaced.contains("ProxyPool.parents"),
            "{replaced}"
        );
    }

    #[test]
    fn every_replaced_flag_has_its_sentence_and_is_no_flag() {
        for (name, instead) in replaced::beginning_with("") {
            let error = read(&format!("--{name} x")).unwrap_err();
            assert_eq!(error, format!("there is no flag --{name}: {instead}"));
            assert!(!error.contains('\n') && !instead.ends_with('.'), "{error}");
        }
    }
}
