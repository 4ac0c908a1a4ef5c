//! What plugin hooks cost per exchange, in time and in allocations of host and plugins.
//!
//! Prints two tables, without and with call statistics, for chains of 0, 1, 5 and 20 plugins from a real library. No
//! sockets are involved. The row without plugins only parses the heads. The cost per plugin is the difference from the
//! row above, so the first plugin includes the fixed cost of having any. Each time is the minimum over many batches,
//! because other load on the machine can only add to it. Build the library first:
//!
//! ```text
//! cargo build --profile fast -p zoo && cargo bench --profile fast -p proxy --features benches --bench hooks
//! ```
//!
//! To count instructions, pass `read`, `set`, `chunks` or `wait` and a number of plugins after `--`. Only that case
//! runs: a thousand exchanges to warm up, then a thousand that are counted:
//!
//! ```text
//! valgrind --tool=callgrind --toggle-collect='*counted*' target/fast/deps/hooks-HASH read 5
//! ```

#![expect(unsafe_code, reason = "counts allocations, here and in the library")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::error::Error;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use std::{env, fs};

use libloading::Library;
use proxy_host::plugins::measured::{Measured, Messages, count_calls};

const CHAINS: [usize; 4] = [0, 1, 5, 20];
/// Exchanges whose instructions are counted.
const COUNTED: usize = 1000;
/// Exchanges per batch, and batches.
const EXCHANGES: usize = 2000;
const BATCHES: usize = 200;

const REQUEST: &[u8] = b"GET http://www.example.com/articles/a-title?from=feed HTTP/1.1\r\n\
    Host: www.example.com\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n\
    Accept-Language: en-GB,en;q=0.5\r\n\
    Accept-Encoding: gzip, deflate\r\n\
    Referer: http://www.example.com/\r\n\
    Cookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\n\
    Upgrade-Insecure-Requests: 1\r\n\
    If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
    Cache-Control: max-age=0\r\n\
    Authorization: Basic dXNlcjpwYXNz\r\n\
    Proxy-Connection: keep-alive\r\n\r\n";

const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\n\
    Date: Sun, 22 Nov 2026 08:49:37 GMT\r\n\
    Content-Type: text/html; charset=utf-8\r\n\
    Content-Length: 65536\r\n\r\n";

/// A plugin of the zoo and the body that it processes.
struct Case {
    name: &'static str,
    plugin: &'static str,
    /// Content chunks of 16 KiB each.
    pieces: usize,
}

const CASES: [Case; 4] = [
    case("read", "HeaderReader", 0),
    case("set", "SetOne", 0),
    case("chunks", "SeeChunks", 4),
    case("wait", "WaitOnce", 0),
];

const fn case(name: &'static str, plugin: &'static str, pieces: usize) -> Case {
    Case {
        name,
        plugin,
        pieces,
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let asked = |name: &str| arguments.iter().any(|argument| argument == name);
    if let Some(case) = CASES.iter().find(|case| asked(case.name)) {
        let count = arguments.iter().find_map(|argument| argument.parse().ok());
        return count_once(case, count.unwrap_or(1));
    }
    // `cargo test` also runs benches; measure nothing then.
    if asked("--bench") {
        println!("calls are not counted");
        print_table()?;
        count_calls();
        println!("calls are counted and timed");
        return print_table();
    }
    Ok(())
}

fn count_once(case: &Case, count: usize) -> Result<(), Box<dyn Error>> {
    let pieces = pieces(case);
    let measured = load(case, count)?;
    measured.run(messages(&pieces), COUNTED);
    counted(&measured, messages(&pieces));
    println!("{} {count}: {COUNTED} exchanges", case.name);
    Ok(())
}

#[inline(never)]
fn counted(measured: &Measured, messages: Messages<'_>) {
    measured.run(messages, COUNTED);
}

fn print_table() -> Result<(), Box<dyn Error>> {
    // Load the library first: its allocations are counted even for a chain without plugins.
    drop(load(&CASES[0], 1)?);
    println!("hooks   plugins   ns/exchange   ns/plugin   allocations/exchange: host, plugins");
    for case in &CASES {
        let pieces = pieces(case);
        let mut above = (0, 0.0);
        for count in CHAINS {
            let cost = measure(&load(case, count)?, messages(&pieces))?;
            let each = match count - above.0 {
                0 => 0.0,
                more => (cost.nanoseconds - above.1) / more as f64,
            };
            above = (count, cost.nanoseconds);
            println!(
                "{:6} {count:8} {:13.0} {each:11.1} {:28.1} {:8.1}",
                case.name, cost.nanoseconds, cost.host_allocations, cost.plugin_allocations
            );
        }
    }
    Ok(())
}

/// The cost of one exchange.
struct Cost {
    nanoseconds: f64,
    host_allocations: f64,
    plugin_allocations: f64,
}

fn measure(measured: &Measured, messages: Messages<'_>) -> Result<Cost, Box<dyn Error>> {
    let in_library = PluginAllocations::open()?;
    measured.run(messages, EXCHANGES);
    let before = (ALLOCATIONS.load(Ordering::Relaxed), in_library.count());
    measured.run(messages, EXCHANGES);
    let after = (ALLOCATIONS.load(Ordering::Relaxed), in_library.count());
    let mut least = Duration::MAX;
    for _ in 0..BATCHES {
        let begin = Instant::now();
        measured.run(messages, EXCHANGES);
        least = least.min(begin.elapsed());
    }
    let each = |total: u64| total as f64 / EXCHANGES as f64;
    Ok(Cost {
        nanoseconds: each(u64::try_from(least.as_nanos())?),
        host_allocations: each(after.0 - before.0),
        plugin_allocations: each(after.1 - before.1),
    })
}

fn load(case: &Case, count: usize) -> Result<Measured, Box<dyn Error>> {
    let spec = format!("{}:{}", library()?.display(), case.plugin);
    Measured::new(&spec, count, &[])
}

/// Benches run from target/PROFILE/deps; plugin libraries are one directory up.
fn library() -> Result<PathBuf, Box<dyn Error>> {
    let name = format!("{}zoo{}", env::consts::DLL_PREFIX, env::consts::DLL_SUFFIX);
    let executable = env::current_exe()?;
    let profile = executable
        .ancestors()
        .nth(2)
        .ok_or("the bench is not in a target directory")?;
    Ok(profile.join(name))
}

fn pieces(case: &Case) -> Vec<Vec<u8>> {
    vec![vec![b'x'; 16 * 1024]; case.pieces]
}

fn messages(pieces: &[Vec<u8>]) -> Messages<'_> {
    Messages {
        request: REQUEST,
        response: RESPONSE,
        pieces,
    }
}

/// The allocation counter inside the plugin library.
struct PluginAllocations(Library);

impl PluginAllocations {
    /// Opens the copy that the host has loaded, through the host's memfd descriptor.
    fn open() -> Result<Self, Box<dyn Error>> {
        let copy = fs::read_dir("/proc/self/fd")?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|path| {
                let target = fs::read_link(path).unwrap_or_default();
                target.to_string_lossy().contains("memfd:libzoo")
            });
        // SAFETY: the library is already loaded, so no initializer runs.
        Ok(Self(unsafe {
            Library::new(copy.ok_or("the zoo is not loaded")?)
        }?))
    }

    fn count(&self) -> u64 {
        // SAFETY: the zoo exports `zoo_allocations` with this signature.
        let count = unsafe { self.0.get::<extern "C" fn() -> u64>(b"zoo_allocations\0") };
        count.map_or(0, |count| count())
    }
}

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

#[global_allocator]
static COUNTING: Counting = Counting;

struct Counting;

// SAFETY: every call is passed on to the system allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.realloc(pointer, layout, new_size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }
}
