//! TLS that ends here: certificates by name, clients that have to show one, and new files.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

use outrigger_tests::backend::unused_port;
use outrigger_tests::haproxy::Haproxy;
use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{eventually, secs, tool};
use tokio::io::AsyncReadExt;

use super::curl;
use outrigger_tests::authority::Authority;

/// A server that says what requests say of the client.
async fn server() -> (Haproxy, std::net::SocketAddr) {
    let at = unused_port();
    let section = format!(
        "frontend heads\n    mode http\n    bind {at}\n    http-request return status 200 \
         content-type text/plain lf-string \"%[req.hdr(x-forwarded-proto)]\"\n"
    );
    (Haproxy::start(&section, &[at]).await, at)
}

fn config(protocol: &str, tls: &str, backend: std::net::SocketAddr) -> String {
    format!(
        "[listeners.web]\nlisten = \"127.0.0.1:0\"\nprotocol = \"{protocol}\"\ncluster = \"api\"\n\
         tls = {{ {tls} }}\n\
         [clusters.api.discovery]\nsource = \"static\"\nendpoints = [{{ address = \"{backend}\" }}]\n"
    )
}

async fn ask(sidecar: &Sidecar, ca: &str, name: &str, more: &[&str]) -> (i32, String) {
    let at = sidecar.web();
    let resolve = format!("{name}:{}:{}", at.port(), at.ip());
    let url = format!("https://{name}:{}/", at.port());
    curl(&[&["--resolve", &resolve, "--cacert", ca, &url], more].concat()).await
}

#[tokio::test]
async fn each_name_has_its_certificate_and_backends_hear_of_tls() {
    let (_server, at) = server().await;
    let authority = Authority::generate();
    let [first, second] = ["a.example", "b.example"].map(|name| authority.sign(name));
    let tls = format!(
        "cert_file = {:?}, key_file = {:?}, certificates = [{{ cert_file = {:?}, key_file = {:?} }}]",
        first.0, first.1, second.0, second.1
    );
    for (protocol, said) in [("http", "https"), ("tcp", "")] {
        let sidecar = Sidecar::ready(&config(protocol, &tls, at)).await;
        for name in ["a.example", "b.example"] {
            let answer = ask(&sidecar, &authority.ca(), name, &[]).await;
            assert_eq!(answer, (0, said.into()), "{protocol} {name}");
        }
        // 60: a certificate that is not for this name.
        assert_eq!(ask(&sidecar, &authority.ca(), "c.example", &[]).await.0, 60);
        assert_eq!(ask(&sidecar, &Authority::generate().ca(), "a.example", &[]).await.0, 60);
    }
}

#[tokio::test]
async fn a_large_body_comes_whole_both_ways() {
    let at = unused_port();
    let file = tempfile::NamedTempFile::new().unwrap();
    let body: Vec<u8> = (0..20_000_000u32).map(|i| ((i * 7) >> 3) as u8).collect();
    std::fs::write(file.path(), &body).unwrap();
    // nginx is somebody else.
    std::fs::set_permissions(file.path(), Permissions::from_mode(0o644)).unwrap();
    let nginx = outrigger_tests::nginx::Nginx::configured(
        at,
        &format!(
            "client_max_body_size 100m; location /up {{ proxy_pass http://{at}/; }} \
             location = /down {{ alias {}; }}",
            file.path().display()
        ),
    )
    .await;
    let authority = Authority::generate();
    let (cert, key) = authority.sign("a.example");
    let tls = format!("cert_file = {cert:?}, key_file = {key:?}");
    let sidecar = Sidecar::ready(&config("http", &tls, nginx.address)).await;
    let got = tempfile::NamedTempFile::new().unwrap();
    let out = got.path().display().to_string();
    let web = sidecar.web();
    let resolve = format!("a.example:{}:{}", web.port(), web.ip());
    let url = format!("https://a.example:{}", web.port());
    let (ca, sent) = (authority.ca(), format!("@{}", file.path().display()));
    let down =
        curl(&["--resolve", &resolve, "--cacert", &ca, "-o", &out, &format!("{url}/down")]).await;
    assert_eq!(down.0, 0);
    assert!(std::fs::read(got.path()).unwrap() == body, "it was changed on its way");
    let up = curl(&[
        "--resolve",
        &resolve,
        "--cacert",
        &ca,
        "--data-binary",
        &sent,
        "-H",
        "Expect:",
        &format!("{url}/up"),
    ])
    .await;
    assert_eq!(up, (0, "hello\n".into()));
}

#[tokio::test]
async fn clients_have_to_show_who_they_are_where_that_is_asked() {
    let (_server, at) = server().await;
    let authority = Authority::generate();
    let (cert, key) = authority.sign("a.example");
    let ca = authority.ca();
    let tls = format!("cert_file = {cert:?}, key_file = {key:?}, client_ca_file = {ca:?}");
    let sidecar = Sidecar::ready(&config("http", &tls, at)).await;
    assert_ne!(ask(&sidecar, &ca, "a.example", &[]).await.0, 0);
    let stranger = Authority::generate().sign("client.example");
    let strange = ["--cert", &stranger.0, "--key", &stranger.1];
    assert_ne!(ask(&sidecar, &ca, "a.example", &strange).await.0, 0);
    let known = authority.sign("client.example");
    let known = ["--cert", &known.0, "--key", &known.1];
    assert_eq!(ask(&sidecar, &ca, "a.example", &known).await, (0, "https".into()));
}

#[tokio::test]
async fn new_files_are_taken_and_bad_ones_are_not() {
    let (_server, at) = server().await;
    let (old, new) = (Authority::generate(), Authority::generate());
    let (cert, key) = old.sign("a.example");
    let tls = format!("cert_file = {cert:?}, key_file = {key:?}");
    let sidecar = Sidecar::ready(&config("http", &tls, at)).await;
    let renewed = new.sign("a.example");
    // Half of a pair is none.
    std::fs::copy(&renewed.0, &cert).unwrap();
    sidecar
        .process
        .line(secs(10), |line| line.contains("old certificates stay").then_some(()))
        .await;
    assert_eq!(ask(&sidecar, &old.ca(), "a.example", &[]).await.0, 0);
    std::fs::copy(&renewed.1, &key).unwrap();
    eventually("the new pair is in use", secs(10), || async {
        (ask(&sidecar, &new.ca(), "a.example", &[]).await.0 == 0).then_some(())
    })
    .await;
    assert_eq!(ask(&sidecar, &old.ca(), "a.example", &[]).await.0, 60);
}

/// Python's sockets close without a word of TLS, as many clients do. With version 1.3 the kernel would
/// reset the connection over the tickets that this one does not read.
#[tokio::test]
async fn a_client_that_just_closes_has_said_all_it_said() {
    const CLIENT: &str = "import socket, ssl, sys\n\
        context = ssl.create_default_context(cafile=sys.argv[2])\n\
        context.maximum_version = ssl.TLSVersion.TLSv1_2\n\
        plain = socket.create_connection(('127.0.0.1', int(sys.argv[1])))\n\
        secure = context.wrap_socket(plain, server_hostname='a.example')\n\
        secure.sendall(b'x' * 1000000)\n\
        secure.close()\n";
    let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let authority = Authority::generate();
    let (cert, key) = authority.sign("a.example");
    let tls = format!("cert_file = {cert:?}, key_file = {key:?}");
    let sidecar = Sidecar::ready(&config("tcp", &tls, server.local_addr().unwrap())).await;
    let mut client = tokio::process::Command::new(tool("python3", "python3"));
    client.args(["-c", CLIENT, &sidecar.web().port().to_string(), &authority.ca()]);
    let client = client.kill_on_drop(true).spawn().unwrap();
    let (mut connection, _) = server.accept().await.unwrap();
    let mut said = Vec::new();
    let read = tokio::time::timeout(secs(10), connection.read_to_end(&mut said)).await;
    assert_eq!(read.expect("it ends").expect("it is not reset"), 1_000_000);
    drop(client);
}
