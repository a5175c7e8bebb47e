//! Tests the mechanisms of AWS against recorded answers.

use super::*;
use crate::discovery::lister::{Lister, ListerConfig};
use crate::discovery::recorded_server::{
    RecordedServer, answer, assert_cases, assert_port, assert_refused, lister,
};

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

/// What a mechanism asks when its block names a region, an endpoint, keys and a role: first the
/// role from AWS' service for that, then its own service at the endpoint, both signed.
async fn assert_keys<L: Lister>(service: &str, keys: fn(&L::Config) -> &AwsKeys) {
    let role = "<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>ROLE</AccessKeyId>\
                <SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken>\
                <Expiration>2999-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>";
    let server = RecordedServer::new(vec![answer(
        "POST https://sts.eu-west-2.amazonaws.com/ Action=AssumeRole",
        role,
    )]);
    let yaml = format!(
        "{{{KEYS}, role_arn: arn-1, external_id: ext-1, endpoint: 'http://e:1', refresh_interval: 7m}}"
    );
    let config: L::Config = serde_saphyr::from_str(&yaml).unwrap();
    assert_eq!(config.interval().std().as_secs(), 420);
    // Nobody answers at the endpoint: what was asked there is what matters.
    lister::<L>(&yaml, &server).unwrap().list().await.unwrap_err();
    let seen = server.seen();
    assert!(seen[0].contains("RoleArn=arn-1") && seen[0].contains("ExternalId=ext-1"), "{}", seen[0]);
    assert!(seen[0].contains("Credential=AK/") && seen[0].contains("/eu-west-2/sts/"), "{}", seen[0]);
    let own = seen.iter().find(|request| request.split(' ').nth(1).unwrap().starts_with("http://e:1/"));
    let own = own.unwrap_or_else(|| panic!("{service} asks nothing at its endpoint: {seen:?}"));
    assert!(own.contains("Credential=ROLE/") && own.contains(&format!("/eu-west-2/{service}/")), "{own}");
    // Another secret makes another signature; the profile and the keys are those of the block.
    let block: L::Config = serde_saphyr::from_str("{access_key: AK, secret_key: SK, profile: p}").unwrap();
    let settings = keys(&block).settings();
    assert_eq!((settings.secret_key.expose(), settings.profile.as_str()), ("SK", "p"));
}

#[tokio::test]
async fn keys_of_all_mechanisms_do_what_they_say() {
    assert_keys::<Ec2Sd>("ec2", |config| &config.aws).await;
    assert_keys::<LightsailSd>("lightsail", |config| &config.aws).await;
    assert_keys::<EcsSd>("ecs", |config| &config.aws).await;
    assert_keys::<ElastiCacheSd>("elasticache", |config| &config.aws).await;
    assert_keys::<MskSd>("kafka", |config| &config.aws).await;
    assert_keys::<RdsSd>("rds", |config| &config.aws).await;
}

/// The port of targets is that of the block. Caches have ports of their own.
#[tokio::test]
async fn targets_have_the_port_of_the_block() {
    assert_port::<Ec2Sd>(include_str!("../../../tests/data/discovery/ec2.json")).await;
    assert_port::<LightsailSd>(include_str!("../../../tests/data/discovery/lightsail.json")).await;
    assert_port::<EcsSd>(include_str!("../../../tests/data/discovery/ecs.json")).await;
    assert_port::<MskSd>(include_str!("../../../tests/data/discovery/msk.json")).await;
}

/// Each role of `aws_sd_configs` asks what the mechanism of its own name asks, with the keys of the
/// block: the region, the clusters, the conditions.
#[tokio::test]
async fn roles_ask_for_what_the_block_says() {
    let clusters = vec!["arn:c-1".to_owned()];
    let filters = vec![AwsFilter { name: "f-1".to_owned(), values: vec!["v-1".to_owned()] }];
    let shared = AwsSdConfig {
        own: AwsRoleKeys { role: String::new(), filters: filters.clone(), clusters: clusters.clone() },
        ..AwsSdConfig::default()
    };
    assert_eq!(Ec2Sd::entry(shared.clone()).own.filters, filters);
    let rds = RdsSd::entry(shared.clone()).own;
    assert_eq!((rds.filters, rds.clusters), (filters, clusters.clone()));
    assert_eq!(EcsSd::entry(shared.clone()).own.clusters, clusters);
    assert_eq!(MskSd::entry(shared.clone()).own.clusters, clusters);
    assert_eq!(ElastiCacheSd::entry(shared).own.clusters, clusters);
    for (what, cluster) in [
        ("ecs", "DescribeClusters"),
        ("kafka", "/api/v2/clusters/c-1"),
        ("rds", "DBClusterIdentifier=c-1"),
        ("elasticache", "ServerlessCacheName=c-1"),
    ] {
        let server = RecordedServer::new(Vec::new());
        let yaml = format!("{{{KEYS}, clusters: [c-1]}}");
        let cache = format!("{{{KEYS}, clusters: ['arn:aws:elasticache:r:a:serverlesscache:c-1']}}");
        let _ = match what {
            "ecs" => lister::<EcsSd>(&yaml, &server).unwrap().list().await,
            "rds" => lister::<RdsSd>(&yaml, &server).unwrap().list().await,
            "elasticache" => lister::<ElastiCacheSd>(&cache, &server).unwrap().list().await,
            _ => lister::<MskSd>(&yaml, &server).unwrap().list().await,
        };
        let first = server.seen().remove(0);
        assert!(first.contains(cluster) && first.contains("c-1"), "{what}: {first}");
    }
    let conditions = "filters: [{name: f-1, values: [v-1]}]";
    let server = RecordedServer::new(vec![answer(
        "POST https://rds.eu-west-2.amazonaws.com/ DescribeDBClusters",
        RDS_CLUSTERS,
    )]);
    lister::<RdsSd>(&format!("{{{KEYS}, {conditions}}}"), &server).unwrap().list().await.unwrap_err();
    let asked = server.seen().into_iter().find(|request| request.contains("DescribeDBInstances")).unwrap();
    assert!(asked.contains("=f-1") && asked.contains("=v-1"), "{asked}");
    // Without values the refresh fails before anything is asked.
    let server = RecordedServer::new(Vec::new());
    for filter in ["{name: f-1}", "{name: f-1, values: []}"] {
        let mut rds = lister::<RdsSd>(&format!("{{{KEYS}, filters: [{filter}]}}"), &server).unwrap();
        let error = rds.list().await.unwrap_err().to_string();
        assert!(error.contains("missing required field") && server.seen().is_empty(), "{error}");
    }
    let server = RecordedServer::new(vec![answer(&format!("{URL} DescribeAvailabilityZones"), "<r/>")]);
    lister::<Ec2Sd>(&format!("{{{KEYS}, {conditions}}}"), &server).unwrap().list().await.unwrap_err();
    let asked = server.seen().into_iter().find(|request| request.contains("DescribeInstances")).unwrap();
    assert!(asked.contains("Filter.1.Name=f-1") && asked.contains("v-1"), "{asked}");
}

/// An entry of `aws_sd_configs` is the entry of its role with the same keys.
#[test]
fn a_role_has_the_keys_of_its_mechanism() {
    fn assert_same<L: AwsRole>(role: &str, own: &str)
    where
        L::Config: PartialEq + std::fmt::Debug,
    {
        let keys = format!(
            "region: r, endpoint: 'http://e:1', access_key: AK, secret_key: SK, profile: p, role_arn: arn-1, \
             external_id: x, refresh_interval: 7m, port: 81{own}"
        );
        let shared: AwsSdConfig = serde_saphyr::from_str(&format!("{{role: {role}, {keys}}}")).unwrap();
        let alone: L::Config = serde_saphyr::from_str(&format!("{{{keys}}}")).unwrap();
        assert_eq!(L::entry(shared), alone, "{role}");
    }
    let filters = ", filters: [{name: f-1, values: [v-1]}]";
    let clusters = ", clusters: [c-1]";
    assert_same::<Ec2Sd>("ec2", filters);
    assert_same::<EcsSd>("ecs", clusters);
    assert_same::<ElastiCacheSd>("elasticache", clusters);
    assert_same::<LightsailSd>("lightsail", "");
    assert_same::<MskSd>("msk", clusters);
    assert_same::<RdsSd>("rds", &format!("{filters}{clusters}"));
}

const RDS_CLUSTERS: &str = "<r><DescribeDBClustersResult><DBClusters><DBCluster><DBClusterArn>c</DBClusterArn>\
    </DBCluster></DBClusters></DescribeDBClustersResult></r>";

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
