//! Passed through: connections are routed by what a TLS handshake says, and not decrypted.

use std::net::SocketAddr;

use outrigger_tests::backend::unused_port;
use outrigger_tests::haproxy::Haproxy;
use outrigger_tests::raw::Raw;
use outrigger_tests::sidecar::Sidecar;

use super::curl;
use outrigger_tests::authority::Authority;

/// A server for each name, that has a certificate for it and says it.
async fn servers(authority: &Authority, names: &[&str]) -> (Haproxy, Vec<SocketAddr>) {
    let (mut sections, mut addresses) = (String::new(), Vec::new());
    for name in names {
        authority.sign(name);
        let (at, both) = (unused_port(), authority.both(name));
        sections += &format!(
            "frontend {name}\n    mode http\n    bind {at} ssl crt {both} alpn http/1.1,http/1.0\n    \
             http-request return status 200 content-type text/plain string \"{name}\"\n"
        );
        addresses.push(at);
    }
    (Haproxy::start(&sections, &addresses).await, addresses)
}

/// Asks for this name at the listener.
async fn ask(authority: &Authority, at: SocketAddr, name: &str, more: &[&str]) -> (i32, String) {
    let resolve = format!("{name}:{}:{}", at.port(), at.ip());
    let (url, ca) = (format!("https://{name}:{}/", at.port()), authority.ca());
    let arguments = [&["--resolve", &resolve, "--cacert", &ca, &url], more].concat();
    curl(&arguments).await
}

#[tokio::test]
async fn a_connection_goes_where_its_name_says() {
    let authority = Authority::generate();
    let names = ["a.example", "b.example", "c.other"];
    let (_servers, at) = servers(&authority, &names).await;
    let mut config = "[listeners.web]\nlisten = \"127.0.0.1:0\"\nprotocol = \"tcp\"\nroutes = [\n\
                      { sni = \"a.example\", alpn = \"http/1.0\", cluster = \"c2\" },\n\
                      { sni = \"a.example\", cluster = \"c0\" },\n\
                      { sni = \"*.example\", cluster = \"c1\" },\n]\n"
        .to_owned();
    for (i, at) in at.iter().enumerate() {
        config += &format!(
            "[clusters.c{i}.discovery]\nsource = \"static\"\nendpoints = [{{ address = \"{at}\" }}]\n"
        );
    }
    let sidecar = Sidecar::ready(&config).await;
    let web = sidecar.web();
    assert_eq!(ask(&authority, web, "a.example", &[]).await, (0, "a.example".into()));
    assert_eq!(ask(&authority, web, "b.example", &[]).await, (0, "b.example".into()));
    // By the protocol that is offered: there is the certificate of somebody else.
    let old = ["--http1.0", "-k"];
    assert_eq!(ask(&authority, web, "a.example", &old).await, (0, "c.other".into()));
    // No route: 35 is a handshake that failed.
    let (code, body) = ask(&authority, web, "c.other", &[]).await;
    assert_eq!((code, body.as_str()), (35, ""));
    // What is no TLS is turned away.
    let mut plain = Raw::connect(web).await;
    plain.send("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").await;
    assert!(plain.answer().await.is_none());
    let metrics = sidecar.get("/metrics").await.1;
    for reason in ["no_route", "bad_request"] {
        let line = format!(
            "outrigger_connection_ends_total{{listener=\"web\",outrigger_cluster=\"\",reason=\"{reason}\"}} 1"
        );
        assert!(metrics.contains(&line), "{reason}");
    }
}
