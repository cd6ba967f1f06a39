//! One connection of the app, from accept to close.

use std::future::poll_fn;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::defect::Defect;
use super::downstream::{Downstream, Next};
use super::exchange::{After, exchange, send};
use super::head::{RequestHead, ResponseHead};
use super::reply;
use super::write::Sender;
use crate::net::wire::Wire;
use crate::proxy::door::Arrival;
use crate::proxy::http::account::Account;
use crate::proxy::http::site::{Record, Site};

/// How long what the app still sends is read after we are done with it: closing over unread bytes
/// makes the kernel reset the connection, and the app would lose the answer that it has not read
/// yet. How much that is, is the business of the sockets on both sides, which hold megabytes.
const LINGER: Duration = Duration::from_secs(2);

/// Serves the connection until either side closes it.
pub(in crate::proxy) async fn serve(arrival: Arrival, site: Rc<Site>) {
    let sender = Sender::new(arrival.client, arrival.hello.is_some());
    let mut app = Downstream::new(arrival.stream, sender, site.timeouts, &site.timers);
    let (mut request, mut answer) = (RequestHead::default(), ResponseHead::default());
    loop {
        request.shrink();
        answer.shrink();
        let after = match app.next(&mut request, &site.closing).await {
            Next::Request => exchange(&mut app, &request, &mut answer, &site).await,
            Next::Refused(defect) => refuse(&mut app, defect, &site).await,
            Next::End => return,
        };
        match after {
            After::Next => {}
            After::Close => return linger(app.wire).await,
            After::Reset => return app.wire.stream.reset_on_close(),
        }
    }
}

/// Answers what is no request.
async fn refuse(app: &mut Downstream, defect: Defect, site: &Site) -> After {
    let account = Account::open(site, app.sender.peer, None);
    let mut record = Record::new(site, account.as_deref());
    record.failed(defect.into());
    reply::refusal(app.wire.output.bytes(), defect);
    send(app, After::Close, record).await
}

/// Says that no more will come, and reads what the app has still under way.
async fn linger(mut wire: Wire) {
    let drain = async {
        wire.stream.shutdown().await?;
        while !wire.ended {
            let unused = wire.input.unused().len();
            wire.input.consume(unused);
            poll_fn(|cx| wire.poll_fill(cx)).await?;
        }
        Ok::<_, std::io::Error>(())
    };
    let _ = timeout(LINGER, drain).await;
}
