//! Load generator for `scripts/bench`: an origin, and clients that reach it through a proxy.
//!
//! One program and one thread, so that every proxy under comparison has the same client and the same origin. Every
//! response is checked for its status and its length: a proxy that drops bytes scores errors, not speed. The script
//! starts the proxies and measures their cost.

use std::cell::{Cell, RefCell};
use std::error::Error;
use std::fmt::Display;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use clap::{Args, Parser, Subcommand};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::LocalSet;

type LoadResult<T> = Result<T, Box<dyn Error>>;

/// Largest read or write, in bytes.
const CHUNK: usize = 128 * 1024;
/// How long responses in flight may take after the time of a run is over.
const GRACE: Duration = Duration::from_secs(10);

/// Origin and clients for measuring a proxy. Results are one line of JSON.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Answer GET /N with N bytes, and any POST after reading its content
    Origin {
        /// Port on 127.0.0.1; 0 picks a free one. The address is printed
        #[arg(long, default_value_t = 0)]
        port: u16,
    },
    /// Send requests to the proxy in absolute-form
    Forward(Plan),
    /// Send requests through CONNECT tunnels
    Tunnel(Plan),
    /// Send requests through a TCP relay, which has no CONNECT
    Relay(Plan),
}

#[derive(Args, Clone)]
struct Plan {
    /// Address of the proxy
    #[arg(long)]
    proxy: SocketAddr,
    /// Address of the origin
    #[arg(long)]
    origin: SocketAddr,
    /// Connections open at the same time
    #[arg(long, default_value_t = 1)]
    connections: usize,
    /// Total number of requests
    #[arg(long, default_value_t = 1)]
    requests: u64,
    /// Requests on a connection before it is closed; 0: no limit
    #[arg(long, default_value_t = 0)]
    per_connection: u64,
    /// Bytes in each response
    #[arg(long, default_value_t = 80)]
    download: u64,
    /// Bytes in each request; above 0 the method is POST
    #[arg(long, default_value_t = 0)]
    upload: u64,
    /// Start no new request after this many seconds
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Send one request on each connection, print the result, and keep all open until standard input ends
    #[arg(long)]
    hold: bool,
}

/// How clients reach the origin through the proxy.
#[derive(Clone, Copy, PartialEq)]
enum ProxyPath {
    Forward,
    Tunnel,
    Relay,
}

fn main() -> LoadResult<()> {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let tasks = LocalSet::new();
    tasks.block_on(&runtime, async {
        match cli.command {
            Command::Origin { port } => origin(port).await,
            Command::Forward(plan) => clients(ProxyPath::Forward, plan).await,
            Command::Tunnel(plan) => clients(ProxyPath::Tunnel, plan).await,
            Command::Relay(plan) => clients(ProxyPath::Relay, plan).await,
        }
    })
}

async fn origin(port: u16) -> LoadResult<()> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::from(([127, 0, 0, 1], port)))?;
    let listener = socket.listen(16_384)?;
    println!("{}", listener.local_addr()?);
    io::stdout().flush()?;
    loop {
        // Running out of descriptors is temporary: the next accept returns the same connection.
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        tokio::task::spawn_local(async move {
            // If a client closes early, the client counts the error.
            let _ = answer_all(stream).await;
        });
    }
}

async fn answer_all(stream: TcpStream) -> LoadResult<()> {
    stream.set_nodelay(true)?;
    let mut wire = Wire::new(stream);
    while let Some(request) = wire.read_request().await? {
        wire.skip(request.content_len).await?;
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n",
            request.answer_len
        );
        wire.write(head.into_bytes(), request.answer_len).await?;
    }
    Ok(())
}

/// State shared by all clients of a run.
struct LoadRun {
    route: ProxyPath,
    plan: Plan,
    started_at: Instant,
    unsent: Cell<u64>,
    /// Limits how many held connections are opened at once, so that no listener's backlog overflows.
    opening: Semaphore,
    score: RefCell<Score>,
}

#[derive(Default)]
struct Score {
    latencies_us: Vec<u32>,
    bytes: u64,
    errors: u64,
    first_error: Option<String>,
}

impl LoadRun {
    /// Claims one of the unsent requests.
    fn take(&self) -> bool {
        let left = self.unsent.get();
        let may_send =
            left > 0 && self.started_at.elapsed() < Duration::from_secs(self.plan.seconds);
        self.unsent.set(if may_send { left - 1 } else { left });
        may_send
    }

    fn count_error(&self, error: impl Display) {
        let mut score = self.score.borrow_mut();
        score.errors += 1;
        score.first_error.get_or_insert_with(|| error.to_string());
    }
}

async fn clients(route: ProxyPath, plan: Plan) -> LoadResult<()> {
    let unsent = Cell::new(if plan.hold {
        plan.connections as u64
    } else {
        plan.requests
    });
    let opening = Semaphore::new(if plan.hold { 50 } else { plan.connections });
    let run = Rc::new(LoadRun {
        route,
        plan,
        started_at: Instant::now(),
        unsent,
        opening,
        score: RefCell::default(),
    });
    let open: Vec<_> = (0..run.plan.connections)
        .map(|_| tokio::task::spawn_local(Rc::clone(&run).client()))
        .collect();
    let mut held = Vec::new();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(run.plan.seconds) + GRACE;
    for client in open {
        match tokio::time::timeout_at(deadline, client).await {
            Ok(wire) => held.extend(wire?),
            Err(_) => run.count_error("no whole answer in time"),
        }
    }
    report(&run, held.len())?;
    if run.plan.hold {
        io::stdin().read_to_end(&mut Vec::new())?;
    }
    Ok(())
}

impl LoadRun {
    /// Sends requests until none is left; returns its open connection, if any.
    async fn client(self: Rc<Self>) -> Option<Wire> {
        let _turn = self.opening.acquire().await;
        let mut open: Option<(Wire, u64)> = None;
        while self.take() {
            let asked_at = Instant::now();
            let (wire, used) = open.take().unzip();
            match self.ask(wire).await {
                Ok(wire) => {
                    self.count(asked_at.elapsed());
                    let used = used.unwrap_or(0) + 1;
                    open = (used != self.plan.per_connection).then_some((wire, used));
                }
                Err(error) => self.count_error(error),
            }
            if self.plan.hold {
                break;
            }
        }
        open.map(|(wire, _)| wire)
    }

    /// One request and its complete response; dials if `wire` is `None`.
    async fn ask(&self, wire: Option<Wire>) -> LoadResult<Wire> {
        let mut wire = match wire {
            Some(wire) => wire,
            None => self.connect().await?,
        };
        wire.write(self.request_head(), self.plan.upload).await?;
        let content_len = wire.read_response().await?;
        if content_len != self.plan.download {
            return Err(format!("{content_len} bytes instead of {}", self.plan.download).into());
        }
        wire.skip(content_len).await?;
        Ok(wire)
    }

    async fn connect(&self) -> LoadResult<Wire> {
        let stream = TcpStream::connect(self.plan.proxy).await?;
        stream.set_nodelay(true)?;
        let mut wire = Wire::new(stream);
        if self.route == ProxyPath::Tunnel {
            let origin = self.plan.origin;
            wire.write(
                format!("CONNECT {origin} HTTP/1.1\r\nHost: {origin}\r\n\r\n").into_bytes(),
                0,
            )
            .await?;
            wire.read_established().await?;
        }
        Ok(wire)
    }

    fn request_head(&self) -> Vec<u8> {
        let Plan {
            origin,
            upload,
            download,
            ..
        } = self.plan;
        let scheme_and_host = if self.route == ProxyPath::Forward {
            format!("http://{origin}")
        } else {
            String::new()
        };
        let (method, length) = match upload {
            0 => ("GET", String::new()),
            _ => ("POST", format!("Content-Length: {upload}\r\n")),
        };
        format!(
            "{method} {scheme_and_host}/{download} HTTP/1.1\r\nHost: {origin}\r\nUser-Agent: load\r\nAccept: */*\r\n{length}\r\n"
        )
        .into_bytes()
    }

    fn count(&self, latency: Duration) {
        let mut score = self.score.borrow_mut();
        score.bytes += self.plan.download + self.plan.upload;
        score
            .latencies_us
            .push(latency.as_micros().try_into().unwrap_or(u32::MAX));
    }
}

fn report(run: &LoadRun, open: usize) -> io::Result<()> {
    let seconds = run.started_at.elapsed().as_secs_f64();
    let mut score = run.score.borrow_mut();
    score.latencies_us.sort_unstable();
    let latencies = &score.latencies_us;
    let quantile = |share: usize| {
        latencies
            .get(latencies.len() * share / 100)
            .copied()
            .unwrap_or(0)
    };
    println!(
        "{{\"requests\":{},\"errors\":{},\"bytes\":{},\"open\":{open},\"seconds\":{seconds:.6},\"p50_us\":{},\"p99_us\":{},\"first_error\":{:?}}}",
        latencies.len(),
        score.errors,
        score.bytes,
        quantile(50),
        quantile(99),
        score.first_error.as_deref().unwrap_or(""),
    );
    io::stdout().flush()
}

/// What the origin needs to know about a request.
struct ServedRequest {
    content_len: u64,
    answer_len: u64,
}

/// A connection and the bytes read ahead from it.
struct Wire {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Wire {
    fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            read: Vec::new(),
        }
    }

    /// The next request; `None` if the peer closed the connection between two requests.
    async fn read_request(&mut self) -> LoadResult<Option<ServedRequest>> {
        loop {
            let mut fields = [httparse::EMPTY_HEADER; 64];
            let mut request = httparse::Request::new(&mut fields);
            if let httparse::Status::Complete(head_len) = request.parse(&self.read)? {
                let target = request.path.unwrap_or("/");
                let path = target.rsplit_once('/').map_or("", |(_, path)| path);
                let asked = ServedRequest {
                    content_len: content_length(request.headers)?.unwrap_or(0),
                    answer_len: path.parse().unwrap_or(0),
                };
                self.read.drain(..head_len);
                return Ok(Some(asked));
            }
            if self.fill().await? == 0 {
                return if self.read.is_empty() {
                    Ok(None)
                } else {
                    Err("request cut off".into())
                };
            }
        }
    }

    /// Reads the head of a 200 response; returns the length of its content.
    async fn read_response(&mut self) -> LoadResult<u64> {
        self.read_head()
            .await?
            .ok_or_else(|| "answer without Content-Length".into())
    }

    /// Reads the response to CONNECT, which has no content.
    async fn read_established(&mut self) -> LoadResult<()> {
        self.read_head().await.map(drop)
    }

    async fn read_head(&mut self) -> LoadResult<Option<u64>> {
        loop {
            let mut fields = [httparse::EMPTY_HEADER; 64];
            let mut response = httparse::Response::new(&mut fields);
            if let httparse::Status::Complete(head_len) = response.parse(&self.read)? {
                let status = response.code.unwrap_or(0);
                if status != 200 {
                    return Err(format!("status {status}").into());
                }
                let length = content_length(response.headers)?;
                self.read.drain(..head_len);
                return Ok(length);
            }
            if self.fill().await? == 0 {
                return Err("closed before the answer".into());
            }
        }
    }

    /// Reads and discards `len` bytes of content.
    async fn skip(&mut self, len: u64) -> LoadResult<()> {
        let ahead = self.read.len().min(usize::try_from(len)?);
        self.read.drain(..ahead);
        let mut left = len - ahead as u64;
        let mut sink = if left > 0 {
            vec![0; CHUNK.min(usize::try_from(left)?)]
        } else {
            Vec::new()
        };
        while left > 0 {
            let room = sink.len().min(usize::try_from(left)?);
            match self.stream.read(&mut sink[..room]).await? {
                0 => return Err(format!("closed {left} bytes before the end").into()),
                count => left -= count as u64,
            }
        }
        Ok(())
    }

    /// Writes a head and `len` bytes of content; the first of them go out together with the head.
    async fn write(&mut self, mut head: Vec<u8>, len: u64) -> io::Result<()> {
        let first = len.min(16 * 1024);
        head.resize(head.len() + first as usize, b'x');
        self.stream.write_all(&head).await?;
        let mut left = len - first;
        let content = if left > 0 {
            vec![b'x'; CHUNK]
        } else {
            Vec::new()
        };
        while left > 0 {
            let count = left.min(CHUNK as u64);
            self.stream.write_all(&content[..count as usize]).await?;
            left -= count;
        }
        Ok(())
    }

    async fn fill(&mut self) -> io::Result<usize> {
        self.read.reserve(4096);
        self.stream.read_buf(&mut self.read).await
    }
}

fn content_length(fields: &[httparse::Header<'_>]) -> LoadResult<Option<u64>> {
    let found = fields
        .iter()
        .find(|field| field.name.eq_ignore_ascii_case("content-length"));
    Ok(found
        .map(|field| str::from_utf8(field.value))
        .transpose()?
        .map(str::parse)
        .transpose()?)
}
