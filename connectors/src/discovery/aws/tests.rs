//! Tests the mechanisms of AWS against recorded answers.

use super::*;
use crate::discovery::lister::Lister;
use crate::discovery::recorded_server::{RecordedServer, answer, assert_cases, assert_refused, lister};

#[tokio::test]
async fn instances_of_ec2_have_the_labels_of_prometheus() {
    assert_cases::<Ec2Sd>(include_str!("../../../tests/data/discovery/ec2.json")).await;
}

#[tokio::test]
async fn instances_of_lightsail_have_the_labels_of_prometheus() {
    assert_cases::<LightsailSd>(include_str!("../../../tests/data/discovery/lightsail.json")).await;
}

#[tokio::test]
async fn tasks_of_ecs_have_the_labels_of_prometheus() {
    assert_cases::<EcsSd>(include_str!("../../../tests/data/discovery/ecs.json")).await;
}

#[tokio::test]
async fn caches_have_the_labels_of_prometheus() {
    assert_cases::<ElastiCacheSd>(include_str!("../../../tests/data/discovery/elasticache.json")).await;
}

#[tokio::test]
async fn nodes_of_msk_have_the_labels_of_prometheus() {
    assert_cases::<MskSd>(include_str!("../../../tests/data/discovery/msk.json")).await;
}

#[tokio::test]
async fn databases_have_the_labels_of_prometheus() {
    assert_cases::<RdsSd>(include_str!("../../../tests/data/discovery/rds.json")).await;
}

const KEYS: &str = "region: eu-west-2, access_key: AK, secret_key: SK";
const URL: &str = "POST https://ec2.eu-west-2.amazonaws.com/";

/// A call that fails for a moment is repeated, one that is refused is not.
#[tokio::test]
async fn calls_are_repeated_up_to_three_times() {
    let refused = "<Response><Errors><Error><Code>UnauthorizedOperation</Code></Error></Errors></Response>";
    for (status, body, calls) in [(503, "", 3), (403, refused, 1)] {
        let server = RecordedServer::new(vec![
            answer(&format!("{URL} DescribeAvailabilityZones"), "<r/>"),
            answer(&format!("{URL} DescribeInstances"), body).status(status),
        ]);
        let mut ec2 = lister::<Ec2Sd>(&format!("{{{KEYS}}}"), &server).unwrap();
        let error = ec2.list().await.unwrap_err().to_string();
        assert!(error.starts_with(&format!("could not describe instances: HTTP status {status}")), "{error}");
        let seen = server.seen().iter().filter(|request| request.contains("DescribeInstances")).count();
        assert_eq!(seen, calls, "{status}");
    }
}

#[tokio::test]
async fn zones_are_asked_for_until_they_are_known() {
    let instances = answer(&format!("{URL} DescribeInstances"), "<r/>");
    let none = answer(&format!("{URL} DescribeAvailabilityZones"), "").status(400);
    let server = RecordedServer::new(vec![instances.clone(), none]);
    let mut ec2 = lister::<Ec2Sd>(&format!("{{{KEYS}}}"), &server).unwrap();
    ec2.list().await.unwrap();
    assert!(ec2.list().await.unwrap().is_empty());
    server.replace(vec![instances, answer(&format!("{URL} DescribeAvailabilityZones"), "<r/>")]);
    ec2.list().await.unwrap();
    ec2.list().await.unwrap();
    let seen = server.seen().iter().filter(|request| request.contains("DescribeAvailabilityZones")).count();
    assert_eq!(seen, 3);
}

#[test]
fn configuration_errors_are_those_of_prometheus() {
    assert_refused::<Ec2Sd>(&[(
        "{filters: [{name: a}]}",
        "EC2 SD configuration filter values cannot be empty",
    )]);
    let aws = |yaml: &str| {
        AwsSd::validate(&serde_saphyr::from_str(yaml).unwrap()).map_err(|error| error.to_string())
    };
    assert_eq!(aws("{region: a}"), Err("unknown AWS SD role \"\"".to_owned()));
    assert_eq!(aws("{role: s3}"), Err("unknown AWS SD role \"s3\"".to_owned()));
    for role in ["ec2", "ecs", "elasticache", "lightsail", "msk", "rds"] {
        aws(&format!("{{role: {role}, region: a, port: 0, refresh_interval: 0s}}")).unwrap();
    }
}
