//! How a consortium is watched: what each role says of itself, the alerts, the dashboard, and the
//! documents that explain them, all against each other.
#![allow(clippy::unwrap_used, reason = "a test")]

mod dev;
mod watch;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use dev::Dev;
use serde_json::Value;
use watch::{Watched, documented};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

/// Names of metrics in a text: ours begin alike, and alerts' names do not.
fn names_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let names = words.filter(|word| word.starts_with("willis_"));
    names.map(str::to_owned).collect()
}

/// A series' name as documents have it: a histogram is one, though it is shown in three parts.
fn family(name: &str) -> &str {
    let parts = ["_bucket", "_count", "_sum"];
    let histogram = "willis_http_request_seconds";
    match name.strip_prefix(histogram) {
        Some(part) if parts.contains(&part) => histogram,
        _ => name,
    }
}

#[test]
fn every_role_says_how_it_is_and_what_it_says_is_what_the_documents_name() {
    let folder = tempfile::tempdir().unwrap();
    let dev = Dev::start(&folder.path().join("dev"), &[]);
    let watched = watch::all(&dev.ready);
    assert_eq!(watched.len(), 11);
    for role in &watched {
        let (status, body) = role.get("/live");
        assert_eq!(status, 200, "{body}");
        let live: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(live["role"], role.role.as_str());
        let said = role.becomes(true);
        let checks: Vec<&str> = said["checks"]
            .as_array()
            .unwrap()
            .iter()
            .map(|check| check["check"].as_str().unwrap())
            .collect();
        let expected: &[&str] = match role.role.as_str() {
            "node" => &["takes-part", "chain", "quorum"],
            "hospital" => &["database", "chain", "writer-epoch", "institution-key"],
            "cloud" => &["database", "store", "chain"],
            _ => &["database", "chain"],
        };
        assert_eq!(checks, expected);
        // It has those three paths, and none of the role's own.
        for path in ["/v1/status", "/v1/openapi.json", "/"] {
            assert_eq!(role.get(path).0, 404, "{path}");
        }
    }
    what_is_shown_is_what_is_documented(&watched);
    numbers_are_those_of_a_running_consortium(&watched);
    two_nodes_away_are_noticed(&watched);
    dev.stop();
}

fn what_is_shown_is_what_is_documented(watched: &[Watched]) {
    let documented = documented();
    let mut shown = BTreeSet::new();
    let mut series = BTreeSet::new();
    for role in watched {
        let metrics = role.metrics();
        for sample in &metrics.samples {
            let family = family(&sample.name);
            let labels = documented
                .get(family)
                .unwrap_or_else(|| panic!("docs/operations.md does not explain {family}"));
            let own: BTreeSet<String> = sample
                .labels
                .keys()
                .filter(|label| *label != "le")
                .cloned()
                .collect();
            assert_eq!(&own, labels, "{family}");
            for (label, value) in &sample.labels {
                label_is_bounded(label, value);
            }
            shown.insert(family.to_owned());
        }
        series.extend(metrics.names());
    }
    // A gateway is none of a consortium's roles: what it shows is checked where one runs (`intake.rs`).
    let (gateways, others): (Vec<_>, Vec<_>) = documented
        .keys()
        .partition(|name| name.starts_with(watch::GATEWAY));
    assert!(!gateways.is_empty());
    series.extend(gateways.into_iter().cloned());
    let not_shown: Vec<_> = others
        .into_iter()
        .filter(|name| !shown.contains(*name))
        .collect();
    assert!(not_shown.is_empty(), "nobody shows {not_shown:?}");
    let used = [
        ("the alerts", names_in(&read("deploy/watching/alerts.yaml"))),
        (
            "the alerts' cases",
            names_in(&read("deploy/watching/alerts.test.yaml")),
        ),
        (
            "the dashboard",
            names_in(&read("deploy/watching/dashboard.json")),
        ),
    ];
    for (who, names) in used {
        assert!(names.len() > 10, "{who}");
        for name in names {
            assert!(
                series.contains(&name),
                "{who} names {name}, which no role shows"
            );
        }
    }
}

/// Each label has few values, and none of them is anybody's.
fn label_is_bounded(label: &str, value: &str) {
    let simple = |more: &str| {
        !value.is_empty()
            && value.len() <= 24
            && value
                .chars()
                .all(|c| c.is_ascii_lowercase() || more.contains(c))
    };
    let holds = match label {
        "institution" => matches!(value.parse::<u32>(), Ok(1..=4)),
        "route" => value == "none" || value.starts_with("/v1/"),
        "method" => ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "other"].contains(&value),
        "status" => ["1xx", "2xx", "3xx", "4xx", "5xx"].contains(&value),
        "le" => value == "+Inf" || value.parse::<f64>().is_ok(),
        "version" => simple("0123456789.-"),
        "role" | "check" | "folder" | "kind" | "reason" | "state" => simple("-"),
        _ => false,
    };
    assert!(holds, "{label}={value}");
}

fn numbers_are_those_of_a_running_consortium(watched: &[Watched]) {
    for (role, count) in [("node", 4), ("hospital", 4), ("centre", 1), ("cloud", 1)] {
        let found = watched.iter().filter(|one| one.role == role);
        assert_eq!(found.count(), count, "{role}");
    }
    for node in watched.iter().filter(|one| one.role == "node") {
        // A start is over once each accounting node's keys of two epochs are on the chain.
        let metrics = node.metrics_when(|metrics| {
            let is = |name: &str| metrics.value(name, None);
            is("willis_node_height") > 1.0
                && is("willis_node_in_touch_nodes") >= 3.0
                && is("willis_node_hpke_keys_missing") == 0.0
        });
        let is = |name: &str| metrics.value(name, None);
        assert!(is("willis_node_lag_seconds") < is("willis_node_lag_seconds_max"));
        assert_eq!(is("willis_node_nodes"), 4.0);
        assert_eq!(is("willis_node_quorum"), 3.0);
        assert_eq!(is("willis_node_votes"), 1.0);
        assert_eq!(is("willis_node_failed"), 0.0);
        assert_eq!(is("willis_node_evidence"), 0.0);
        // Each accounting node's key of two epochs, and the writer epochs, came with the start.
        let kind = |kind| metrics.value("willis_node_transactions_total", Some(("kind", kind)));
        assert!(kind("node-key") >= 1.0);
        let folder = |name| metrics.value("willis_folder_bytes", Some(("folder", name)));
        assert!(folder("state") > 0.0 && folder("engine") > 0.0);
        // A certificate of 397 days that was just issued.
        let left = is("willis_tls_certificate_end_time_seconds") - is("willis_start_time_seconds");
        assert!(
            (396.0 * 86_400.0..=397.0 * 86_400.0).contains(&left),
            "{left}"
        );
        let status = ("route", "/v1/status");
        let calls = metrics.samples.iter().filter(|one| {
            one.name == "willis_http_requests_total"
                && one.labels.get(status.0).map(String::as_str) == Some(status.1)
        });
        assert!(calls.map(|one| one.value).sum::<f64>() >= 1.0);
    }
    let led: f64 = watched[0]
        .metrics()
        .samples
        .iter()
        .filter(|one| one.name == "willis_node_blocks_led_total")
        .map(|one| one.value)
        .sum();
    let height = watched[0].metrics().value("willis_node_height", None);
    assert!(led > 0.0 && led <= height, "{led} {height}");
}

/// By the shell, since not every system has a program for it.
fn signal(name: &str, pid: u32) {
    let line = format!("kill {name} {pid}");
    assert!(
        Command::new("sh")
            .args(["-c", &line])
            .status()
            .unwrap()
            .success()
    );
}

/// Two of four nodes hang: the others are not ready, say that the quorum is lost and who is away, and
/// are ready again when they are back.
fn two_nodes_away_are_noticed(watched: &[Watched]) {
    let nodes: Vec<_> = watched.iter().filter(|one| one.role == "node").collect();
    for node in &nodes[2..] {
        signal("-STOP", node.pid);
    }
    let said = nodes[0].becomes(false);
    // The chain's time falls behind as well; which of the two comes first says nothing.
    let quorum = loop {
        let (_, said) = nodes[0].ready();
        let checks = said["checks"].as_array().unwrap().clone();
        let found = checks.into_iter().find(|check| check["check"] == "quorum");
        let found = found.unwrap();
        if found["ok"] == false {
            break found;
        }
        std::thread::sleep(std::time::Duration::from_millis(200));
    };
    assert!(
        quorum["do"].as_str().unwrap().contains("start the nodes"),
        "{said}"
    );
    let metrics = nodes[0].metrics();
    assert!(metrics.value("willis_node_in_touch_nodes", None) < 3.0);
    assert_eq!(
        metrics.value("willis_check_ok", Some(("check", "quorum"))),
        0.0
    );
    for (institution, heard) in [("1", 1.0), ("3", 0.0), ("4", 0.0)] {
        let label = Some(("institution", institution));
        assert_eq!(metrics.value("willis_node_in_touch", label), heard);
    }
    // It answers all the while.
    assert_eq!(nodes[0].get("/live").0, 200);
    for node in &nodes[2..] {
        signal("-CONT", node.pid);
    }
    nodes[0].becomes(true);
    let skipped = nodes[0].metrics();
    assert!(skipped.value("willis_node_views_skipped_total", None) >= 1.0);
}

/// Runs the linter that Prometheus brings.
fn promtool(arguments: &[&str], folder: &Path) {
    let output = Command::new("promtool")
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap_or_else(|error| {
            panic!(
                "promtool: {error}; on Debian, apt-get install --no-install-recommends prometheus"
            )
        });
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "promtool {arguments:?}: {said}{complained}"
    );
}

#[test]
fn the_rules_hold_and_fire_when_they_must() {
    let folder = root().join("deploy/watching");
    promtool(&["check", "rules", "alerts.yaml"], &folder);
    promtool(&["check", "config", "prometheus.yaml"], &folder);
    promtool(&["test", "rules", "alerts.test.yaml"], &folder);
}

/// Every alert is tried by a case in which it fires, and explained under its name.
#[test]
fn every_alert_is_tried_and_has_its_runbook() {
    let rules = read("deploy/watching/alerts.yaml");
    let cases = read("deploy/watching/alerts.test.yaml");
    let operations = read("docs/operations.md");
    let mut alerts = 0;
    for rule in rules.split("- alert: ").skip(1) {
        let name = rule.lines().next().unwrap();
        alerts += 1;
        for part in ["expr:", "severity:", "summary:", "description:"] {
            assert!(rule.contains(part), "{name} has no {part}");
        }
        let fires = format!("labels: 'ALERTS{{alertname=\"{name}\"");
        assert!(cases.contains(&fires), "no case in which {name} fires");
        let rests = format!("ALERTS{{alertname=\"{name}\", alertstate=\"firing\"}}");
        let rests = cases.match_indices(&rests).any(|(place, _)| {
            let rest = &cases[place..];
            rest.lines()
                .nth(2)
                .is_some_and(|line| line.trim() == "exp_samples: []")
        });
        assert!(rests, "no case in which {name} does not fire");
        let anchor = format!("docs/operations.md#{}", name.to_lowercase());
        assert!(rule.contains(&anchor), "{name} does not lead to {anchor}");
        let heading = format!("\n### {name}\n\n");
        assert!(
            operations.contains(&heading),
            "docs/operations.md has no {name}"
        );
    }
    assert!(alerts > 10);
    let headings = operations.matches("\n### Willis").count();
    assert_eq!(
        headings, alerts,
        "docs/operations.md explains an alert that is none"
    );
}

/// A panel, or what has a data source.
fn objects<'a>(value: &'a Value, found: &mut Vec<&'a serde_json::Map<String, Value>>) {
    match value {
        Value::Object(object) => {
            found.push(object);
            object.values().for_each(|inner| objects(inner, found));
        }
        Value::Array(values) => values.iter().for_each(|inner| objects(inner, found)),
        _ => {}
    }
}

#[test]
fn the_dashboard_is_one_that_any_grafana_takes() {
    let dashboard: Value = serde_json::from_str(&read("deploy/watching/dashboard.json")).unwrap();
    assert!(
        dashboard.get("id").is_none(),
        "the id is each Grafana's own"
    );
    assert_eq!(dashboard["uid"], "willis");
    assert!(dashboard["schemaVersion"].as_u64().unwrap() >= 36);
    let mut variables = BTreeSet::new();
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        variables.insert(variable["name"].as_str().unwrap().to_owned());
        assert_eq!(
            variable["current"],
            serde_json::json!({}),
            "nothing is chosen"
        );
    }
    // No data source but the one that is chosen.
    let mut all = Vec::new();
    objects(&dashboard, &mut all);
    let mut sources = 0;
    for object in all {
        if let Some(source) = object.get("datasource") {
            let chosen = serde_json::json!({"type": "prometheus", "uid": "${datasource}"});
            assert_eq!(source, &chosen);
            sources += 1;
        }
    }
    assert!(sources > 20);
    let (mut ids, mut titles) = (BTreeSet::new(), BTreeSet::new());
    let mut places: Vec<[u64; 4]> = Vec::new();
    let mut expressions = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        let title = panel["title"].as_str().unwrap();
        assert!(
            ids.insert(panel["id"].as_u64().unwrap()),
            "{title}: its id is another's"
        );
        assert!(titles.insert(title), "{title} stands twice");
        let at = |name: &str| panel["gridPos"][name].as_u64().unwrap();
        let place = [at("x"), at("y"), at("x") + at("w"), at("y") + at("h")];
        assert!(place[2] <= 24, "{title} is wider than the page");
        let meets = |other: &[u64; 4]| {
            place[0] < other[2] && other[0] < place[2] && place[1] < other[3] && other[1] < place[3]
        };
        assert!(!places.iter().any(meets), "{title} lies on another panel");
        places.push(place);
        let kind = panel["type"].as_str().unwrap();
        assert!(
            ["row", "timeseries", "stat"].contains(&kind),
            "{title}: {kind}"
        );
        if kind == "row" {
            continue;
        }
        assert!(
            !panel["description"].as_str().unwrap().is_empty(),
            "{title}"
        );
        assert!(
            !panel["fieldConfig"]["defaults"]["unit"]
                .as_str()
                .unwrap()
                .is_empty()
        );
        let mut letters = BTreeSet::new();
        for target in panel["targets"].as_array().unwrap() {
            assert!(letters.insert(target["refId"].as_str().unwrap()), "{title}");
            assert!(
                !target["legendFormat"].as_str().unwrap().is_empty(),
                "{title}"
            );
            expressions.push(target["expr"].as_str().unwrap().to_owned());
        }
        assert!(!letters.is_empty(), "{title} shows nothing");
    }
    // Prometheus' own parser reads each, with a value for each variable.
    let mut rules = "groups:\n  - name: dashboard\n    rules:\n".to_owned();
    for (place, expression) in expressions.iter().enumerate() {
        let mut plain = expression.replace("$__rate_interval", "5m");
        for variable in &variables {
            plain = plain.replace(&format!("${variable}"), ".*");
        }
        assert!(!plain.contains('$'), "{expression} has an unknown variable");
        let quoted = serde_json::to_string(&plain).unwrap();
        rules += &format!("      - record: dashboard:panel:{place}\n        expr: {quoted}\n");
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("dashboard.yaml"), rules).unwrap();
    promtool(&["check", "rules", "dashboard.yaml"], folder.path());
}
