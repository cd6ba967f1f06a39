//! As whom an app calls.

use outrigger_sdk::{Client, Error};
use outrigger_tests::authority::Authority;
use outrigger_tests::backend::{config, unused_port};
use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{eventually, secs};
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

use crate::world::{World, backends};

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_token_lets_in_and_may_be_replaced() {
    let [a] = backends().await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    let (first, second) = ("a".repeat(32), "b".repeat(32));
    std::fs::write(&file, &first).unwrap();
    let control = format!("token_file = {file:?}");
    let world = World::with_control(&config(&[a.address], ""), &control).await;
    let with =
        |token: &str| Client::builder().address(world.address()).token(token).connect().unwrap();
    with(&first).clusters().await.unwrap();
    for denied in [&world.client, &with(&second), &with("")] {
        let error = denied.clusters().await.unwrap_err();
        assert!(matches!(error, Error::Denied { .. }), "{error:?}");
        let error = denied.lease("app").await.unwrap_err();
        assert!(matches!(error, Error::Denied { .. }), "{error:?}");
    }
    let of_file = Client::builder().address(world.address()).token_file(&file).connect().unwrap();
    of_file.clusters().await.unwrap();
    std::fs::write(&file, &second).unwrap();
    eventually("the new token counts", secs(5), async || of_file.clusters().await.ok()).await;
    eventually("the old one does not", secs(5), async || with(&first).clusters().await.err()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_client_certificate_lets_in() {
    let [a] = backends().await;
    let (ours, others) = (Authority::generate(), Authority::generate());
    let (cert_file, key_file) = ours.sign("localhost");
    let address = unused_port();
    let control = format!(
        "[control]\nlisten = \"{address}\"\ncert_file = {cert_file:?}\nkey_file = {key_file:?}\n\
         client_ca_file = {:?}\n",
        ours.ca()
    );
    let _sidecar = Sidecar::ready(&(config(&[a.address], "") + &control)).await;
    let read = |path: String| std::fs::read_to_string(path).unwrap();
    let ca = read(ours.ca());
    let with = |identity: Option<&Authority>| {
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&ca));
        let tls = tls.domain_name("localhost");
        let tls = match identity.map(|authority| authority.sign("app")) {
            Some((pem, key)) => tls.identity(Identity::from_pem(read(pem), read(key))),
            None => tls,
        };
        Client::builder().address(address.to_string()).tls(tls).connect().unwrap()
    };
    assert_eq!(with(Some(&ours)).clusters().await.unwrap().len(), 1);
    for stranger in [None, Some(&others)] {
        let error = with(stranger).clusters().await.unwrap_err();
        assert!(matches!(error, Error::Denied { .. } | Error::Unavailable(_)), "{error:?}");
    }
}
