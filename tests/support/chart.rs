//! The chart: where it is, what it renders to, what it grants.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::machine;
use crate::parts::{HELM, command};

/// The chart's folder.
pub fn folder() -> PathBuf {
    machine::sources().join("../deploy/chart")
}

/// Runs helm on the chart, without a cluster and without what this machine's user has set up for it.
///
/// # Errors
/// When helm fails; with its words.
pub fn helm(args: &[&str]) -> Result<String> {
    let home = tempfile::tempdir()?;
    let mut helm = Command::new(HELM.file("helm")?);
    command::output(helm.env("HOME", home.path()).env_remove("KUBECONFIG").args(args).arg(folder()))
}

/// The objects that the chart renders to, in the namespace `system`.
///
/// # Errors
/// When helm fails or prints what is not YAML.
pub fn rendered(release: &str, args: &[&str]) -> Result<Vec<Value>> {
    let text = helm(&[&["template", release, "--namespace", "system"], args].concat())?;
    let mut objects: Vec<Value> = serde_saphyr::from_multiple(&text)?;
    objects.retain(|object| !object.is_null());
    Ok(objects)
}

/// Every right that roles among these objects grant, one per line: role, verbs, resource.
///
/// # Errors
/// A rule that such a line cannot tell: by names of objects, or by URLs.
pub fn rights(objects: &[Value]) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for role in objects.iter().filter(|o| ["Role", "ClusterRole"].contains(&text(o, "/kind"))) {
        let who = format!("{} {}", text(role, "/kind"), full_name(role));
        for rule in list(role, "/rules") {
            let told = rule.get("resourceNames").is_none() && rule.get("nonResourceURLs").is_none();
            ensure!(told, "{who}: {rule}");
            let mut verbs: Vec<&str> = words(rule, "/verbs").collect();
            verbs.sort_unstable();
            for group in words(rule, "/apiGroups") {
                for resource in words(rule, "/resources") {
                    let dot = if group.is_empty() { "" } else { "." };
                    lines.push(format!("{who}: {} {resource}{dot}{group}", verbs.join(" ")));
                }
            }
        }
    }
    lines.sort();
    Ok(lines)
}

/// `namespace/name`, or the name of what has no namespace.
fn full_name(object: &Value) -> String {
    match text(object, "/metadata/namespace") {
        "" => text(object, "/metadata/name").to_owned(),
        namespace => format!("{namespace}/{}", text(object, "/metadata/name")),
    }
}

fn text<'v>(value: &'v Value, at: &str) -> &'v str {
    value.pointer(at).and_then(Value::as_str).unwrap_or_default()
}

fn list<'v>(value: &'v Value, at: &str) -> &'v [Value] {
    value.pointer(at).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn words<'v>(value: &'v Value, at: &str) -> impl Iterator<Item = &'v str> {
    list(value, at).iter().filter_map(Value::as_str)
}
