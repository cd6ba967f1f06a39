//! TLS that begins here: backends are believed only for the name that is asked for.

use outrigger_tests::backend::unused_port;
use outrigger_tests::haproxy::Haproxy;
use outrigger_tests::secs;
use outrigger_tests::sidecar::Sidecar;

use super::curl;
use outrigger_tests::authority::Authority;

/// A server that has this certificate and says which name it was asked for and whether the client has
/// shown a certificate.
async fn server(authority: &Authority, name: &str, more: &str) -> (Haproxy, std::net::SocketAddr) {
    authority.sign(name);
    let at = unused_port();
    let section = format!(
        "frontend names\n    mode http\n    bind {at} ssl crt {} {more}\n    http-request return \
         status 200 content-type text/plain lf-string \"%[ssl_fc_sni] %[ssl_c_used]\"\n",
        authority.both(name)
    );
    (Haproxy::start(&section, &[at]).await, at)
}

fn config(protocol: &str, tls: &str, backend: std::net::SocketAddr) -> String {
    format!(
        "[listeners.web]\nlisten = \"127.0.0.1:0\"\nprotocol = \"{protocol}\"\ncluster = \"api\"\n\
         [clusters.api.tls]\n{tls}\n\
         [clusters.api.health]\nprobe = \"http\"\ninterval = \"100ms\"\nfall = 1\n\
         [clusters.api.discovery]\nsource = \"static\"\nendpoints = [{{ address = \"{backend}\" }}]\n"
    )
}

async fn ask(sidecar: &Sidecar) -> (i32, String) {
    curl(&[&format!("http://{}/", sidecar.web())]).await
}

#[tokio::test]
async fn a_backend_is_verified_by_traffic_and_probes() {
    let authority = Authority::generate();
    let (_server, at) = server(&authority, "db.example", "").await;
    let ca = format!("ca_file = {:?}", authority.ca());
    let named = format!("{ca}\nserver_name = \"db.example\"");
    for protocol in ["http", "tcp"] {
        let sidecar = Sidecar::ready(&config(protocol, &named, at)).await;
        sidecar.until_state("api", &at.to_string(), "ready", secs(5)).await;
        for _ in 0..3 {
            assert_eq!(ask(&sidecar).await, (0, "db.example 0".into()), "{protocol}");
        }
    }
    let other = format!("{ca}\nserver_name = \"other.example\"");
    let stranger = Authority::generate();
    let nobody = format!("ca_file = {:?}\nserver_name = \"db.example\"", stranger.ca());
    // Without a name it is the address, for which the certificate is not.
    for wrong in [&other, &nobody, &ca] {
        let sidecar = Sidecar::ready(&config("http", wrong, at)).await;
        sidecar.until_state("api", &at.to_string(), "unhealthy", secs(5)).await;
        let view = sidecar.backend(&at.to_string()).await;
        let detail = view["last_probe"]["detail"].as_str().unwrap_or_default().to_owned();
        assert!(detail.contains("certificate"), "{wrong}: {detail}");
        let (_, body) = ask(&sidecar).await;
        assert!(body.contains("no connection to a backend"), "{wrong}: {body}");
    }
    let blind = "insecure_skip_verify = true";
    let sidecar = Sidecar::ready(&config("http", blind, at)).await;
    assert_eq!(ask(&sidecar).await, (0, " 0".into()));
    assert!(sidecar.process.log().contains("insecure_skip_verify"));
}

#[tokio::test]
async fn we_show_who_we_are_where_that_is_asked() {
    let authority = Authority::generate();
    let verify = format!("verify required ca-file {}", authority.ca());
    let (_server, at) = server(&authority, "db.example", &verify).await;
    let (cert, key) = authority.sign("us.example");
    let named = format!("ca_file = {:?}\nserver_name = \"db.example\"", authority.ca());
    let shown = format!("{named}\ncert_file = {cert:?}\nkey_file = {key:?}");
    let sidecar = Sidecar::ready(&config("tcp", &shown, at)).await;
    assert_eq!(ask(&sidecar).await, (0, "db.example 1".into()));
    let sidecar = Sidecar::ready(&config("http", &named, at)).await;
    sidecar.until_state("api", &at.to_string(), "unhealthy", secs(5)).await;
}
