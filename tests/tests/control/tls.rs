//! TLS, and certificates of callers, as grpcurl shows them.

use outrigger_tests::authority::Authority;
use outrigger_tests::sidecar::Sidecar;

use crate::config;
use crate::reflection::grpcurl;

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_certificate_says_who_calls() {
    let (ours, theirs) = (Authority::generate(), Authority::generate());
    let (cert, key) = ours.sign("localhost");
    let (app, app_key) = ours.sign("app.internal");
    let (other, other_key) = theirs.sign("app.internal");
    // Whoever needs a certificate to be here may be anywhere.
    let table = format!(
        "[control]\nlisten = \"0.0.0.0:0\"\ncert_file = {cert:?}\nkey_file = {key:?}\n\
         client_ca_file = {:?}\n",
        ours.ca()
    );
    let sidecar = Sidecar::start(&(config(1) + &table)).await;
    let address = sidecar.control.replace("0.0.0.0", "localhost");
    let ca = ours.ca();
    let list = |more: &[&str]| {
        let arguments =
            [&["-cacert", &ca], more, &[&address, "outrigger.v1.ControlService/ListClusters"]];
        let arguments: Vec<String> = arguments.concat().into_iter().map(str::to_owned).collect();
        async move { grpcurl(&arguments.iter().map(String::as_str).collect::<Vec<_>>()).await }
    };
    let (code, said) = list(&["-cert", &app, "-key", &app_key]).await;
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("\"name\": \"api\""), "{said}");
    assert_ne!(list(&[]).await.0, 0, "a certificate is asked for");
    assert_ne!(list(&["-cert", &other, "-key", &other_key]).await.0, 0, "and not anybody's");
    let (code, _) = grpcurl(&["-plaintext", &address, "list"]).await;
    assert_ne!(code, 0, "nothing is served in the clear");
}
