use serde_json::{Value, json};

use super::*;

fn service() -> ConsulService {
    ConsulService {
        name: ConsulName::Service("api".into()),
        tags: Vec::new(),
        passing_only: false,
        datacenter: None,
        namespace: None,
        filter: None,
        priority_key: "outrigger-priority".into(),
    }
}

fn instance(id: &str, address: &str, port: u16, checks: &[(&str, &str)]) -> Value {
    let checks: Vec<_> =
        checks.iter().map(|(id, status)| json!({ "CheckID": id, "Status": status })).collect();
    json!({
        "Node": { "Node": "n1", "Address": "10.9.0.1", "Datacenter": "dc1" },
        "Service": {
            "ID": id, "Service": "api", "Tags": ["v2", "outrigger-priority=3"], "Address": address,
            "Meta": null, "Port": port, "Weights": { "Passing": 10, "Warning": 2 },
        },
        "Checks": checks,
    })
}

fn read(body: &Value) -> Instances {
    parse(&service().name, body.to_string().as_bytes()).unwrap()
}

fn endpoint(item: &Value, service: &ConsulService) -> Option<(String, u32, Reported)> {
    let endpoint = read(&json!([item])).list[0].endpoint(service)?;
    Some((endpoint.address.to_string(), endpoint.weight / WEIGHT_ONE, endpoint.reported))
}

#[test]
fn the_worst_check_decides_and_the_weight_is_that_of_its_state() {
    let of = |checks: &[(&str, &str)]| {
        let (_, weight, reported) =
            endpoint(&instance("a", "10.0.0.1", 80, checks), &service()).unwrap();
        (weight, reported)
    };
    assert_eq!(of(&[]), (10, Reported::Passing));
    assert_eq!(of(&[("serfHealth", "passing"), ("c", "passing")]), (10, Reported::Passing));
    assert_eq!(of(&[("serfHealth", "passing"), ("c", "warning")]), (2, Reported::Passing));
    assert_eq!(of(&[("serfHealth", "critical"), ("c", "warning")]).1, Reported::Critical);
    assert_eq!(of(&[("c", "what?")]).1, Reported::Critical);
    for by_hand in ["_node_maintenance", "_service_maintenance:a"] {
        let checks = [(by_hand, "critical"), ("c", "critical")];
        assert_eq!(of(&checks).1, Reported::Maintenance, "{by_hand}");
    }
    let passing_only = ConsulService { passing_only: true, ..service() };
    let warned = instance("a", "10.0.0.1", 80, &[("c", "warning")]);
    assert_eq!(endpoint(&warned, &passing_only).unwrap().2, Reported::Critical);
}

#[test]
fn the_node_lends_its_address_and_ipv6_is_one() {
    let address = |text| endpoint(&instance("a", text, 80, &[]), &service()).unwrap().0;
    assert_eq!(address(""), "10.9.0.1:80");
    assert_eq!(address("2001:db8::1"), "[2001:db8::1]:80");
}

#[test]
fn tags_choose_and_tell_the_tier() {
    let item = instance("a", "10.0.0.1", 80, &[]);
    let tagged = |tags: &[&str]| ConsulService {
        tags: tags.iter().map(|t| (*t).into()).collect(),
        ..service()
    };
    assert!(endpoint(&item, &tagged(&["v2"])).is_some());
    assert!(endpoint(&item, &tagged(&["v2", "v3"])).is_none());
    let instances = read(&json!([item]));
    let tier = |service: &ConsulService| instances.list[0].endpoint(service).unwrap().priority;
    assert_eq!(tier(&service()), 3);
    assert_eq!(tier(&ConsulService { priority_key: "other".into(), ..service() }), 0);
    let mut item = item;
    item["Service"]["Meta"] = json!({ "outrigger-priority": "1" });
    let by_meta = read(&json!([item])).list[0].endpoint(&service()).unwrap();
    assert_eq!((by_meta.priority, by_meta.node.as_deref()), (1, Some("n1")));
}

#[test]
fn what_cannot_be_used_costs_itself_alone() {
    let good = instance("a", "10.0.0.1", 80, &[]);
    let mut huge = instance("w", "10.0.0.2", 80, &[]);
    huge["Service"]["Weights"] = json!({ "Passing": 1_i64 << 40, "Warning": -1 });
    let bad = [
        json!(null),
        json!("text"),
        json!({ "Node": { "Node": "n1" }, "Service": null }),
        instance("b", "10.0.0.1", 0, &[]),
        instance("c", "web.example.com", 80, &[]),
        instance("a", "10.0.0.9", 80, &[]),
        json!({ "Node": { "Node": 7 }, "Service": { "ID": "d", "Port": "80" } }),
    ];
    let all: Vec<_> = [good, huge].into_iter().chain(bad).collect();
    let read = read(&json!(all));
    assert_eq!((read.list.len(), read.skipped), (2, 7));
    assert_eq!(read.list[1].weights, (u16::MAX, 0));
    assert_eq!(read.why.as_deref(), Some("it has not the shape of an instance"));
}

#[test]
fn what_is_no_list_is_no_answer() {
    for body in ["", "{}", "<html>", "[{\"Node\":", "7", "null"] {
        assert!(parse(&service().name, body.as_bytes()).is_err(), "{body}");
    }
    let query = ConsulName::Query("near".into());
    let executed = json!({ "Service": "api", "Nodes": [instance("a", "10.0.0.1", 80, &[])] });
    assert_eq!(parse(&query, executed.to_string().as_bytes()).unwrap().list.len(), 1);
    assert!(parse(&query, b"[]").is_err());
}
