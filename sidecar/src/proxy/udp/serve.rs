//! The loop of a UDP listener.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};

use super::sessions::Sessions;
use super::site::Site;
use crate::net::crowd::Ready;
use crate::net::udp::{Batch, Server, Socket};

/// How late a session may end.
const TICK: Duration = Duration::from_millis(100);
/// How long reading rests when the kernel is out of memory, or whatever else it is that fails there.
const REST: Duration = Duration::from_millis(50);

/// Serves all clients of the listener, for as long as the worker lives: sessions go on while the
/// sidecar drains, and hold nothing up, since nobody can tell a client to go elsewhere.
pub(in crate::proxy) fn serve(
    site: Rc<Site>,
    socket: Socket,
) -> io::Result<impl Future<Output = ()>> {
    Ok(run(Server::new(socket)?, Sessions::new(site)?))
}

async fn run(server: Server, mut sessions: Sessions) {
    let (mut requests, mut ready) = (Batch::default(), Ready::default());
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let turn = tokio::select! {
            read = server.recv(&mut requests) => read.map(|()| {
                let now = Instant::now();
                requests.iter().for_each(|(client, datagram)| {
                    sessions.take_request(client, datagram, now);
                });
                requests.is_full()
            }),
            waited = sessions.crowd.ready(&mut ready) => waited.map(|()| {
                let now = Instant::now();
                ready.numbers().for_each(|number| {
                    sessions.take_replies(number, &server, now);
                });
                ready.is_full()
            }),
            now = ticks.tick() => {
                sessions.sweep(now);
                Ok(false)
            }
        };
        match turn {
            Ok(false) => {}
            // There may be more of the same. Before that the runtime is let look at who else has something,
            // or a flood of requests would keep it from the replies, and from all else on this thread.
            Ok(true) => tokio::task::yield_now().await,
            Err(error) => {
                tracing::warn!(%error, "cannot read datagrams, trying again");
                tokio::time::sleep(REST).await;
            }
        }
    }
}
