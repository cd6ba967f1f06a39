//! A sidecar before a recording backend, what was sent to it, and the judgement at the end.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use outrigger_tests::backend::endpoints;
use outrigger_tests::raw::{Answer, Raw};
use outrigger_tests::secs;
use outrigger_tests::sidecar::Sidecar;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use crate::case::{Case, ID, Seen, Sent, Verdict, with_id};
use crate::catalogue::defects;
use crate::oracle::{Oracle, Read, Reading, hexadecimal};
use crate::recorder::{Recorded, Recorder};

/// For an answer, and for the end of a connection.
const PATIENCE: Duration = secs(4);

/// Among thousands of connections that were just closed the kernel may take a new one for an old
/// one and drop its first packet, which is sent again after a second.
pub const SLOW_CONNECT: &str = "timeouts = { connect = \"5s\" }";

pub struct World {
    pub sidecar: Sidecar,
    recorder: Recorder,
    ids: AtomicU32,
    log: Mutex<Log>,
    /// The words for each defect.
    why: HashMap<String, String>,
}

/// What came of what was sent.
#[derive(Debug, Default)]
struct Log {
    /// The requests that were answered, by connection of the backend and place on it.
    answered: BTreeMap<(usize, usize), (String, Seen)>,
    /// Those of which the backend may have seen a part.
    cut: HashSet<String>,
    /// What should have been otherwise.
    wrong: Vec<String>,
}

impl World {
    /// `more` goes before the configuration's tables.
    pub async fn start(more: &str) -> Self {
        let recorder = Recorder::start().await;
        // A route that looks at the path, so that it is made canonical.
        let config = format!(
            "{more}\n[listeners.web]\nlisten = \"127.0.0.1:0\"\n\
             routes = [{{ path_prefix = \"/\", cluster = \"api\" }}, {{ cluster = \"api\" }}]\n\
             [clusters.api]\n{SLOW_CONNECT}\n\
             [clusters.api.discovery]\nsource = \"static\"\nendpoints = [{}]\n",
            endpoints(&[recorder.address])
        );
        let sidecar = Sidecar::ready(&config).await;
        let why = defects().into_iter().collect();
        Self { sidecar, recorder, ids: AtomicU32::new(0), log: Mutex::default(), why }
    }

    pub async fn connect(&self) -> Raw {
        Raw::connect(self.sidecar.web()).await
    }

    /// Gives these requests identities.
    pub fn requests<'c>(&self, cases: impl IntoIterator<Item = &'c Case>) -> Vec<Sent<'c>> {
        cases.into_iter().map(|case| Sent { case, id: self.id() }).collect()
    }

    fn id(&self) -> String {
        format!("{:08x}", self.ids.fetch_add(1, Ordering::Relaxed))
    }

    /// Gives an identity to the start of a request whose end will not be sent.
    pub fn part(&self, bytes: impl AsRef<[u8]>) -> Vec<u8> {
        let id = self.id();
        let bytes = with_id(bytes.as_ref(), &id);
        self.log.lock().unwrap().cut.insert(id);
        bytes
    }

    /// Sends these requests in one piece over a connection of their own, and reads the answers.
    pub async fn talk<'c>(&self, cases: impl IntoIterator<Item = &'c Case>) {
        let sent = self.requests(cases);
        let mut raw = self.connect().await;
        let bytes: Vec<u8> = sent.iter().flat_map(Sent::bytes).collect();
        // The sidecar may have closed before it has all of it.
        let _ = raw.stream.write_all(&bytes).await;
        self.verdicts(&mut raw, &sent).await;
    }

    /// Reads what comes of requests that were sent. Whatever is behind one that closes the
    /// connection must not be answered.
    pub async fn verdicts(&self, raw: &mut Raw, sent: &[Sent<'_>]) {
        for request in sent {
            let what = &request.case.what;
            let to_head = request.case.is_head();
            let answer = timeout(PATIENCE, final_answer(raw, to_head)).await;
            let judged = match answer {
                Ok(Some(answer)) => self.verdict(&answer, request),
                Ok(None) => Err("closed without an answer".to_owned()),
                Err(_) => Err("no answer".to_owned()),
            };
            if let Err(wrong) = judged {
                return self.wrong(format!("{what}: {wrong}: {}", request.escaped()));
            }
            if request.case.closes() {
                match timeout(PATIENCE, raw.is_closed()).await {
                    Ok(true) => {}
                    Ok(false) => self.wrong(format!("{what}: answered, and what is behind it too")),
                    Err(_) => self.wrong(format!("{what}: answered, and the connection stays")),
                }
                return;
            }
        }
    }

    /// Holds an answer against the verdict that is due.
    fn verdict(&self, answer: &Answer, sent: &Sent<'_>) -> Result<(), String> {
        let Sent { case, id } = sent;
        let mut log = self.log.lock().unwrap();
        match &case.verdict {
            Verdict::Refused { status, defect, in_body } => {
                let expected = format!("outrigger: bad_request: {}\n", self.why[*defect]);
                let closing = answer.header("connection") == ["close"];
                if answer.status != *status || answer.text() != expected || !closing {
                    return Err(format!("got {} {}", answer.status, answer.text()));
                }
                if *in_body {
                    log.cut.insert(id.clone());
                }
            }
            Verdict::Passed(seen) => {
                let seen = self.with_id(seen, id);
                let mut echo = format!("{} {}\n", seen.method, seen.target).into_bytes();
                echo.extend_from_slice(&seen.body);
                if answer.status != 200 || !(case.is_head() || answer.body == echo) {
                    return Err(format!("got {} {}", answer.status, answer.text()));
                }
                if answer.header("x-id") != [id] {
                    return Err(format!("got the answer to {:?}", answer.header("x-id")));
                }
                let place = answer.header("x-place")[0].split_once('.').unwrap();
                let place = (place.0.parse().unwrap(), place.1.parse().unwrap());
                if let Some(before) = log.answered.insert(place, (id.clone(), seen)) {
                    return Err(format!("got the answer to {before:?}"));
                }
            }
        }
        Ok(())
    }

    fn wrong(&self, what: String) {
        self.log.lock().unwrap().wrong.push(what);
    }

    fn with_id(&self, seen: &Seen, id: &str) -> Seen {
        let mut seen = seen.clone();
        seen.target = seen.target.replace(ID, id);
        seen.host = seen.host.replace("BACKEND", &self.recorder.address.to_string());
        seen
    }

    /// How many requests were answered by the backend.
    pub fn answered(&self) -> usize {
        self.log.lock().unwrap().answered.len()
    }

    /// What the backend received is, to both parsers, exactly what was answered.
    pub async fn judge(&self) {
        self.assert_verdicts();
        let recorded = self.recorder.settled().await;
        let bytes = || recorded.iter().map(|connection| connection.bytes.as_slice());
        let (llhttp, h11) = tokio::join!(Oracle::Llhttp.read(bytes()), Oracle::H11.read(bytes()));
        assert_eq!(llhttp.len(), h11.len());
        for ((llhttp, h11), Recorded { bytes, .. }) in llhttp.iter().zip(&h11).zip(&recorded) {
            let bytes = bytes.escape_ascii();
            assert!(llhttp == h11, "llhttp reads {llhttp:?}\nh11 {h11:?}\nin {bytes}");
        }
        self.compare(&recorded, &h11);
    }

    /// As `judge`, by h11 alone.
    pub async fn judge_by_h11(&self) {
        self.assert_verdicts();
        let recorded = self.recorder.settled().await;
        let readings = Oracle::H11.read(recorded.iter().map(|c| c.bytes.as_slice())).await;
        self.compare(&recorded, &readings);
    }

    fn assert_verdicts(&self) {
        let wrong = &self.log.lock().unwrap().wrong;
        assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    }

    /// What was read is, connection for connection and in order, what was answered. Only the
    /// last message may have no end, if its sender broke it off, and then the connection ended.
    fn compare(&self, recorded: &[Recorded], readings: &[Reading]) {
        let Log { mut answered, cut, .. } = std::mem::take(&mut *self.log.lock().unwrap());
        assert_eq!(recorded.len(), readings.len(), "each connection was read");
        for (connection, (reading, Recorded { closed, .. })) in
            readings.iter().zip(recorded).enumerate()
        {
            assert_eq!(reading.error, "", "connection {connection}: {reading:?}");
            for (nth, read) in reading.requests.iter().enumerate() {
                if read.whole {
                    let known = answered.remove(&(connection, nth));
                    let (id, seen) =
                        known.unwrap_or_else(|| panic!("nobody was answered: {read:?}"));
                    matches(read, &id, &seen);
                } else {
                    let known = read.field("x-id").iter().any(|id| cut.contains(*id));
                    let last = nth + 1 == reading.requests.len();
                    assert!(known && last && *closed, "a part of {read:?}");
                }
            }
        }
        assert!(answered.is_empty(), "answered, but never read: {answered:?}");
    }
}

/// The next answer that is not an interim one.
async fn final_answer(raw: &mut Raw, to_head: bool) -> Option<Answer> {
    loop {
        let answer = if to_head { raw.head().await? } else { raw.answer().await? };
        if answer.status >= 200 {
            return Some(answer);
        }
    }
}

fn matches(read: &Read, id: &str, seen: &Seen) {
    let line = (read.method.as_str(), read.target.as_str(), read.version.as_str());
    assert_eq!(line, (seen.method.as_str(), seen.target.as_str(), "1.1"), "{read:?}");
    assert_eq!(read.field("host"), [seen.host.as_str()], "{read:?}");
    assert_eq!(read.field("x-id"), [id], "{read:?}");
    assert_eq!(read.body, hexadecimal(&seen.body), "{read:?}");
    assert_eq!(read.trailers, seen.trailers, "{read:?}");
    for (name, _) in &seen.fields {
        let expected = seen.fields.iter().filter(|(other, _)| other == name);
        let expected: Vec<_> = expected.map(|(_, value)| value.as_str()).collect();
        assert_eq!(read.field(name), expected, "{name} in {read:?}");
    }
    for name in &seen.without {
        assert!(read.field(name).is_empty(), "{name} in {read:?}");
    }
}
