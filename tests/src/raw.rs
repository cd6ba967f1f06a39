//! A connection by hand: bytes out, bytes in, and what they are as HTTP.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(5);

/// A connection on which the test says exactly what is sent.
#[derive(Debug)]
pub struct Raw {
    pub stream: TcpStream,
    unread: Vec<u8>,
}

/// An answer as it came.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    /// The values of a field, in order.
    pub fn header(&self, name: &str) -> Vec<&str> {
        let fields = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        let named = fields.filter(|(field, _)| field.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.trim()).collect()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Raw {
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("it listens");
        stream.set_nodelay(true).unwrap();
        stream.into()
    }

    /// Closes so that the other side learns at once that nobody listens any more.
    pub fn reset(self) {
        self.stream.set_zero_linger().unwrap();
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.expect("it can be sent");
    }

    /// As `send`, when the other side may have closed.
    pub async fn try_send(&mut self, bytes: &str) -> std::io::Result<()> {
        let mut probe = [0; 1];
        match self.stream.try_read(&mut probe) {
            Ok(0) => return Err(std::io::ErrorKind::BrokenPipe.into()),
            Ok(_) => self.unread.push(probe[0]),
            Err(_) => {}
        }
        self.stream.write_all(bytes.as_bytes()).await
    }

    /// Reads more, false at the end.
    async fn more(&mut self) -> bool {
        let mut buffer = vec![0; 16 << 10];
        let read = timeout(PATIENCE, self.stream.read(&mut buffer)).await;
        match read.unwrap_or_else(|_| {
            panic!("nothing came within {PATIENCE:?}; so far: {:?}", self.text())
        }) {
            Ok(0) | Err(_) => false,
            Ok(read) => {
                self.unread.extend_from_slice(&buffer[..read]);
                true
            }
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.unread).into_owned()
    }

    async fn through(&mut self, end: &[u8]) -> Option<Vec<u8>> {
        loop {
            let found = self.unread.windows(end.len()).position(|window| window == end);
            if let Some(at) = found {
                let rest = self.unread.split_off(at + end.len());
                return Some(std::mem::replace(&mut self.unread, rest));
            }
            if !self.more().await {
                return None;
            }
        }
    }

    /// The next line, without its end; `None` when the connection ends before.
    pub async fn line(&mut self) -> Option<String> {
        let mut line = self.through(b"\n").await?;
        line.pop();
        Some(String::from_utf8(line).expect("it is text"))
    }

    /// The next so many bytes.
    pub async fn exactly(&mut self, length: usize) -> Vec<u8> {
        while self.unread.len() < length {
            assert!(self.more().await, "closed after {} of {length} bytes", self.unread.len());
        }
        let rest = self.unread.split_off(length);
        std::mem::replace(&mut self.unread, rest)
    }

    /// The next head, 1xx included.
    pub async fn head(&mut self) -> Option<Answer> {
        let head = String::from_utf8(self.through(b"\r\n\r\n").await?).expect("heads are ASCII");
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.unwrap_or_else(|| panic!("not a status line: {head:?}"));
        Some(Answer { status, head, body: Vec::new() })
    }

    /// The next answer with its body, as its head frames it; `None` when the connection ends.
    pub async fn answer(&mut self) -> Option<Answer> {
        let mut answer = self.head().await?;
        let chunked = answer.header("transfer-encoding").contains(&"chunked");
        let length = answer.header("content-length").first().and_then(|l| l.parse().ok());
        answer.body = match (answer.status, chunked, length) {
            (100..=199 | 204 | 304, ..) => Vec::new(),
            (_, true, _) => self.chunks().await.expect("the last chunk is there"),
            (_, _, Some(length)) => self.exactly(length).await,
            _ => self.rest().await,
        };
        Some(answer)
    }

    /// A chunked body; `None` when it breaks off. Trailers are dropped.
    pub async fn chunks(&mut self) -> Option<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = String::from_utf8(self.through(b"\r\n").await?).unwrap();
            let size = line.trim().split(';').next().unwrap_or_default();
            let size =
                usize::from_str_radix(size, 16).unwrap_or_else(|_| panic!("chunk: {line:?}"));
            if size == 0 {
                while self.through(b"\r\n").await?.len() > 2 {}
                return Some(body);
            }
            while self.unread.len() < size + 2 {
                if !self.more().await {
                    return None;
                }
            }
            body.extend(self.exactly(size).await);
            assert_eq!(self.exactly(2).await, b"\r\n");
        }
    }

    /// All that comes until the connection ends.
    pub async fn rest(&mut self) -> Vec<u8> {
        while self.more().await {}
        std::mem::take(&mut self.unread)
    }

    /// As `rest`, and whether the end is a close or a reset.
    pub async fn rest_and_end(&mut self) -> (Vec<u8>, std::io::Result<()>) {
        let read = timeout(PATIENCE, self.stream.read_to_end(&mut self.unread)).await;
        let end = read.unwrap_or_else(|_| panic!("no end within {PATIENCE:?}: {:?}", self.text()));
        (std::mem::take(&mut self.unread), end.map(drop))
    }

    /// As a backend: the head of the next request; `None` when the connection ends.
    pub async fn request(&mut self) -> Option<String> {
        let head = self.through(b"\r\n\r\n").await?;
        Some(String::from_utf8(head).expect("heads are ASCII"))
    }

    /// Says that no more will be sent, and goes on reading.
    pub async fn finish(&mut self) {
        self.stream.shutdown().await.expect("it is still open");
    }

    /// Whether nothing has come that was not asked for, the end included.
    pub fn is_silent(&self) -> bool {
        let nothing = |error: std::io::Error| error.kind() == std::io::ErrorKind::WouldBlock;
        self.unread.is_empty() && self.stream.try_read(&mut [0; 1]).is_err_and(nothing)
    }

    /// Whether the other side closes, with nothing more to say.
    pub async fn is_closed(&mut self) -> bool {
        self.unread.is_empty() && !self.more().await
    }
}

impl From<TcpStream> for Raw {
    fn from(stream: TcpStream) -> Self {
        Self { stream, unread: Vec::new() }
    }
}

/// Sends bytes over a connection of their own and gives the first answer.
pub async fn exchange(address: SocketAddr, bytes: impl AsRef<[u8]>) -> Answer {
    let mut raw = Raw::connect(address).await;
    raw.send(bytes).await;
    raw.answer().await.expect("there is an answer")
}
