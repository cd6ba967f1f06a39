//! A child process that ends with the test, and what it says.

use std::collections::VecDeque;
use std::future::Future;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::Notify;

/// Lines that are kept for the message of a failing test.
const KEPT: usize = 2000;

/// A running process.
#[derive(Debug)]
pub struct Process {
    pub name: String,
    child: Child,
    output: Arc<Output>,
}

#[derive(Debug, Default)]
struct Output {
    lines: Mutex<VecDeque<String>>,
    more: Notify,
}

impl Process {
    /// Starts a command in a process group of its own, so that its children end with it.
    pub fn start(mut command: Command) -> Self {
        let name = command.as_std().get_program().to_string_lossy().into_owned();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.process_group(0).kill_on_drop(true);
        let mut child = command.spawn().unwrap_or_else(|e| panic!("{name}: {e}"));
        let output = Arc::<Output>::default();
        collect(child.stdout.take().expect("stdout is piped"), &output);
        collect(child.stderr.take().expect("stderr is piped"), &output);
        Self { name, child, output }
    }

    pub fn pid(&self) -> u32 {
        self.child.id().expect("it is running")
    }

    /// Its resident memory, in bytes.
    pub fn memory(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        resident.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
    }

    /// The most memory that it has while `work` goes on, and what came of the work.
    pub async fn peak_memory<T>(&self, work: impl Future<Output = T>) -> (usize, T) {
        let mut peak = self.memory();
        let mut samples = tokio::time::interval(Duration::from_millis(50));
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return (peak.max(self.memory()), done),
                _ = samples.tick() => peak = peak.max(self.memory()),
            }
        }
    }

    /// The time that its threads have had a processor.
    pub fn cpu(&self) -> Duration {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap();
        let of_task = |task: std::io::Result<std::fs::DirEntry>| {
            // A thread may have ended since.
            let schedstat = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
            schedstat.split(' ').next()?.parse::<u64>().ok()
        };
        Duration::from_nanos(tasks.filter_map(of_task).sum())
    }

    /// Its open descriptors.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.pid()).unwrap()).unwrap();
        rustix::process::kill_process_group(pid, signal).expect("it can be signalled");
    }

    /// `kill -9`, and wait until it is gone.
    pub async fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.child.wait().await.expect("it can be waited for");
    }

    /// As `kill`, and nothing if it is gone already.
    pub async fn kill_once(&mut self) {
        if self.child.id().is_some() {
            self.kill().await;
        }
    }

    /// The exit code, within `patience`.
    pub async fn exit(&mut self, patience: Duration) -> i32 {
        let exited = tokio::time::timeout(patience, self.child.wait()).await;
        let Ok(status) = exited else {
            panic!("{} did not end within {patience:?}\n{}", self.name, self.log())
        };
        status.expect("it can be waited for").code().unwrap_or(-1)
    }

    /// Waits for the first line for which `of` has a value.
    pub async fn line<T>(&self, patience: Duration, of: impl Fn(&str) -> Option<T>) -> T {
        let seen = async {
            loop {
                let more = self.output.more.notified();
                if let Some(value) = self.output.lines.lock().unwrap().iter().find_map(|l| of(l)) {
                    return value;
                }
                more.await;
            }
        };
        match tokio::time::timeout(patience, seen).await {
            Ok(value) => value,
            Err(_) => panic!("{} did not say it within {patience:?}\n{}", self.name, self.log()),
        }
    }

    /// All that it has said.
    pub fn log(&self) -> String {
        self.output.lines.lock().unwrap().iter().map(|line| format!("{line}\n")).collect()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(pid) = self.child.id().and_then(|pid| i32::try_from(pid).ok())
            && let Some(pid) = Pid::from_raw(pid)
        {
            let _ = rustix::process::kill_process_group(pid, Signal::KILL);
        }
        if std::thread::panicking() {
            eprintln!("--- {} said:\n{}", self.name, self.log());
        }
    }
}

fn collect(pipe: impl AsyncRead + Unpin + Send + 'static, output: &Arc<Output>) {
    let output = Arc::clone(output);
    tokio::spawn(async move {
        let mut lines = BufReader::new(pipe).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let mut kept = output.lines.lock().unwrap();
            if kept.len() == KEPT {
                kept.pop_front();
            }
            kept.push_back(line);
            drop(kept);
            output.more.notify_waiters();
        }
    });
}
