//! Keys that are bound to backends from outside, by the command line here: requests that carry one go
//! there, whatever else they say.

use std::net::SocketAddr;

use outrigger_tests::backend::{Backend, config};
use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{eventually, secs};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::world::{BY_COOKIE, Caller, backends, sticky};

const KEY: &str = "x-outrigger-affinity";

async fn command(sidecar: &Sidecar, arguments: &[&str]) -> String {
    let (code, said) = sidecar.command(&[&["affinity", "api"], arguments].concat()).await;
    assert_eq!(code, 0, "{arguments:?}: {said}");
    said
}

/// Where requests with this key go, on several connections; all to one.
async fn home(address: SocketAddr, key: &str) -> Option<String> {
    let mut homes = std::collections::BTreeSet::new();
    for _ in 0..8 {
        homes.insert(Caller::new(address).await.get(&[(KEY, key)]).await.backend);
    }
    (homes.len() == 1).then(|| homes.pop_first().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_key_goes_where_it_was_bound_until_that_ends() {
    let all: [Backend; 3] = backends().await;
    let addresses = all.each_ref().map(|backend| backend.address);
    let sidecar = Sidecar::ready(&config(&addresses, "")).await;
    assert_eq!(home(sidecar.web(), "u-42").await, None);
    for backend in &all {
        let said = command(&sidecar, &["set", "u-42", &backend.name()]).await;
        assert_eq!(said, format!("u-42 of api is pinned to {}\n", backend.name()));
        assert_eq!(home(sidecar.web(), "u-42").await, Some(backend.name()));
        assert_eq!(home(sidecar.web(), "u-43").await, None);
    }
    let said = command(&sidecar, &["get", "u-42"]).await;
    assert_eq!(said, format!("api: the key is pinned to {}\n", all[2].name()));
    assert_eq!(
        sidecar.metric("outrigger_affinity_total", &[("result", "hit")]).await,
        24.0,
        "of those that carried the key"
    );
    assert_eq!(command(&sidecar, &["clear", "u-42"]).await, "u-42 of api is no longer pinned\n");
    assert_eq!(command(&sidecar, &["clear", "u-42"]).await, "u-42 of api was not pinned\n");
    assert_eq!(home(sidecar.web(), "u-42").await, None);

    command(&sidecar, &["set", "u-42", &all[0].name(), "--ttl", "300ms"]).await;
    eventually("its time is over", secs(2), || async {
        home(sidecar.web(), "u-42").await.is_none().then_some(())
    })
    .await;
}

/// A pin comes before a cookie, leaves no cookie behind, and the key is not the backends' business.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn it_comes_before_a_cookie_and_leaves_none() {
    let all: [Backend; 2] = backends().await;
    let sidecar = Sidecar::ready(
        &config(&all.each_ref().map(|b| b.address), "")
            .replace("[clusters.api.discovery]", &format!("{BY_COOKIE}[clusters.api.discovery]")),
    )
    .await;
    let mut caller = Caller::new(sidecar.web()).await;
    let first = caller.get(&[]).await;
    let other = all.iter().find(|backend| backend.name() != first.backend).unwrap();
    command(&sidecar, &["set", "u", &other.name()]).await;
    let cookie = format!("{}={}", crate::world::COOKIE, first.token());
    let pinned = caller.get(&[("cookie", &cookie), (KEY, "u")]).await;
    assert_eq!((pinned.backend, pinned.set), (other.name(), None));
    let without = caller.get(&[("cookie", &cookie)]).await;
    assert_eq!(without.backend, first.backend);
}

/// A header that the configuration names carries keys for pins, whatever clients stay by.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_key_may_be_in_another_field() {
    let all: [Backend; 2] = backends().await;
    let sidecar = Sidecar::ready(&sticky(&all, "header = \"X-Session\"")).await;
    for backend in &all {
        command(&sidecar, &["set", "s", &backend.name()]).await;
        let visit = Caller::new(sidecar.web()).await.get(&[("x-session", "s")]).await;
        assert_eq!(visit.backend, backend.name());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_backend_that_may_not_be_used_is_passed_over_and_said_so() {
    let all: [Backend; 2] = backends().await;
    let addresses = all.each_ref().map(|backend| backend.address);
    let keep = "[clusters.api.drain]\nkeep_affinity = false\n";
    let sidecar = Sidecar::ready(&(config(&addresses, "") + keep)).await;
    command(&sidecar, &["set", "u", &all[0].name()]).await;
    sidecar.drain(&all[0].name(), "20s").await;
    assert_eq!(home(sidecar.web(), "u").await, Some(all[1].name()));
    let (code, said) = sidecar.command(&["explain", "api", "--key", "u"]).await;
    let expected = format!("the key is pinned to {}, which may not be used", all[0].name());
    assert!(code == 0 && said.contains(&expected), "{said}");
    assert!(said.contains(&format!("* {}", all[1].name())), "{said}");
    assert!(said.contains("draining: by order, until "), "{said}");
    let (code, said) = sidecar.command(&["explain", "api", "--json"]).await;
    let view: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(
        (code, &view["picked"], &view["reason"]),
        (0, &all[1].name().into(), &"policy".into())
    );
    assert_eq!(
        view["backends"][0]["share"].as_f64().unwrap()
            + view["backends"][1]["share"].as_f64().unwrap(),
        1.0
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn mistakes_are_named_and_change_nothing() {
    let all: [Backend; 1] = backends().await;
    let sidecar = Sidecar::ready(&config(&[all[0].address], "")).await;
    let long = "k".repeat(257);
    for (arguments, expected) in [
        (&["affinity", "apj", "set", "u", "x"][..], "no cluster is called \"apj\"; there are: api"),
        (&["affinity", "api", "set", "u", "127.0.0.1:1"], "no backend is called \"127.0.0.1:1\""),
        (&["affinity", "api", "set", &long, &all[0].name()], "got 257 bytes; accepted: 1 to 256"),
        (&["affinity", "api", "clear", ""], "got 0 bytes; accepted: 1 to 256"),
        (&["explain", "apj"], "no cluster is called \"apj\"; there are: api"),
    ] {
        let (code, said) = sidecar.command(arguments).await;
        assert!(code == 1 && said.contains(expected), "{arguments:?}: {said}");
    }
    assert_eq!(sidecar.get("/api/v1/clusters/api/affinity").await.0, 405);
    assert_eq!(sidecar.get("/api/v1/explain").await.0, 400);
}

/// A connection says its key in TLV 0xE0 of its PROXY header.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_connection_is_bound_by_the_key_of_its_header() {
    let all: [Backend; 3] = backends().await;
    let addresses = all.each_ref().map(|backend| backend.address);
    let announced = "[listeners.web]\nprotocol = \"tcp\"\nproxy_protocol = true\n\
                     trusted_cidrs = [\"127.0.0.0/8\"]\n";
    let sidecar =
        Sidecar::ready(&config(&addresses, "").replace("[listeners.web]\n", announced)).await;
    for backend in &all {
        command(&sidecar, &["set", "session 7", &backend.name()]).await;
        for _ in 0..4 {
            let said = answered(sidecar.web(), b"session 7").await;
            assert!(said.contains(&backend.name()), "{said}");
        }
    }
}

/// What a request gets on a connection that says this key.
async fn answered(address: SocketAddr, key: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11".to_vec();
    header.extend(u16::to_be_bytes(12 + 3 + key.len() as u16));
    header.extend([127, 0, 0, 1, 127, 0, 0, 1, 0x30, 0x39, 0, 80]);
    header.extend([0xE0, 0, key.len() as u8]);
    header.extend(key);
    header.extend(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    stream.write_all(&header).await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(secs(5), stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    answer
}
