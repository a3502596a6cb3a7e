//! A way into a control plane: one identity's kubeconfig, and what is done with it by kubectl, helm and kube.

use super::pki::Certificate;
use crate::parts::{HELM, KUBERNETES, command};
use crate::wait::{Look, until};
use anyhow::{Context, Result, bail};
use kube::config::{KubeConfigOptions, Kubeconfig};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// How long an API server on a busy machine may take to serve a new kind or to know of a changed role; a second at most else.
const ESTABLISHED: Duration = Duration::from_mins(2);

/// How somebody proves who he is.
#[derive(Clone, Debug)]
pub(super) enum Credentials {
    /// By a client certificate.
    Certificate(Certificate),
    /// By a bearer token.
    Token(String),
}

/// Writes a kubeconfig with one cluster and one user.
pub(super) fn write_kubeconfig(path: &Path, server: &str, authority: &Path, who: &Credentials) -> Result<()> {
    let user = match who {
        Credentials::Certificate(pair) => serde_json::json!({
            "client-certificate": pair.certificate,
            "client-key": pair.key,
        }),
        Credentials::Token(token) => serde_json::json!({ "token": token }),
    };
    // JSON is YAML.
    let config = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "testbed", "cluster": { "server": server, "certificate-authority": authority } }],
        "users": [{ "name": "user", "user": user }],
        "contexts": [{ "name": "testbed", "context": { "cluster": "testbed", "user": "user" } }],
        "current-context": "testbed",
    });
    fs::write(path, serde_json::to_vec_pretty(&config)?).with_context(|| path.display().to_string())
}

/// One identity at one control plane.
#[derive(Clone, Debug)]
pub struct Access {
    kubeconfig: PathBuf,
    dir: PathBuf,
    kubectl: PathBuf,
}

impl Access {
    /// The identity of this kubeconfig; `dir` takes what kubectl and helm like to keep.
    pub fn new(kubeconfig: &Path, dir: &Path) -> Result<Self> {
        let kubectl = KUBERNETES.file("kubectl")?;
        Ok(Self { kubeconfig: kubeconfig.to_owned(), dir: dir.to_owned(), kubectl })
    }

    /// The kubeconfig's path, for programs that are started.
    pub fn kubeconfig_path(&self) -> &Path {
        &self.kubeconfig
    }

    /// A client of this identity. It lives in the caller's async runtime, so each test makes its own.
    pub async fn client(&self) -> Result<kube::Client> {
        let text = Kubeconfig::read_from(&self.kubeconfig)?;
        let config = kube::Config::from_custom_kubeconfig(text, &KubeConfigOptions::default()).await?;
        Ok(kube::Client::try_from(config)?)
    }

    /// kubectl with this identity, not yet started.
    pub fn kubectl_command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.kubectl);
        command.env("KUBECONFIG", &self.kubeconfig).env("HOME", &self.dir).args(args);
        command
    }

    /// Runs kubectl; returns its output.
    ///
    /// # Errors
    /// The command line and what kubectl wrote.
    pub fn kubectl(&self, args: &[&str]) -> Result<String> {
        command::output(&mut self.kubectl_command(args))
    }

    /// Runs helm; returns its output.
    pub fn helm(&self, args: &[&str]) -> Result<String> {
        let mut helm = Command::new(HELM.file("helm")?);
        helm.env("KUBECONFIG", &self.kubeconfig).env("HOME", &self.dir);
        for (key, name) in
            [("HELM_CACHE_HOME", "cache"), ("HELM_CONFIG_HOME", "config"), ("HELM_DATA_HOME", "data")]
        {
            helm.env(key, self.dir.join("helm").join(name));
        }
        command::output(helm.args(args))
    }

    /// `kubectl apply --server-side` of YAML or JSON text; returns kubectl's words.
    pub fn apply(&self, text: &str) -> Result<String> {
        self.with_input(&["apply", "--server-side", "--force-conflicts", "--filename=-"], text)
    }

    /// Runs kubectl with `text` as its standard input.
    pub fn with_input(&self, args: &[&str], text: &str) -> Result<String> {
        let mut kubectl = self.kubectl_command(args);
        kubectl.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = kubectl.spawn().context("cannot start kubectl")?;
        child.stdin.take().context("kubectl has no standard input")?.write_all(text.as_bytes())?;
        let done = child.wait_with_output()?;
        if !done.status.success() {
            bail!("kubectl {}: {}", args.join(" "), String::from_utf8_lossy(&done.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&done.stdout).into_owned())
    }

    /// `kubectl wait --for=CONDITION`, for at most `seconds`; an empty namespace for objects that have none.
    pub fn wait_for(&self, namespace: &str, object: &str, condition: &str, seconds: u64) -> Result<()> {
        let (condition, timeout) = (format!("--for={condition}"), format!("--timeout={seconds}s"));
        let mut args = vec!["wait", object, &condition, &timeout];
        if !namespace.is_empty() {
            args.extend(["--namespace", namespace]);
        }
        self.kubectl(&args).map(|_| ())
    }

    /// Waits until the API server has taken a CRD in, and kubectl finds its kind: that comes a moment later.
    pub fn wait_established(&self, crd: &str) -> Result<()> {
        self.wait_for("", &format!("crd/{crd}"), "condition=Established", ESTABLISHED.as_secs())?;
        until(ESTABLISHED, format!("the kind of {crd}"), || {
            self.kubectl(&["get", crd, "--all-namespaces", "--output=name"])
        })
        .map(drop)
    }

    /// The same for our own kinds.
    pub fn wait_own_kinds(&self) -> Result<()> {
        ["overcommitpolicies", "nodeovercommits"]
            .iter()
            .try_for_each(|kind| self.wait_established(&format!("{kind}.overcommit.dev")))
    }

    /// Waits until the API server itself says whether a service account may do this: it learns of roles by a watch, and
    /// until then answers by the old ones.
    pub fn wait_right(&self, account: &str, verb: &str, resource: &str, granted: bool) -> Result<()> {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let (who, sub) = (format!("--as={account}"), format!("--subresource={subresource}"));
        let ask = ["auth", "can-i", verb, resource, &sub, &who];
        let what =
            format!("{account} to be {} {verb} {resource}", if granted { "granted" } else { "denied" });
        until(ESTABLISHED, what, || {
            let asked = self.kubectl_command(&ask).output().map_err(|e| e.to_string())?;
            let said = String::from_utf8_lossy(&asked.stdout).trim().to_owned();
            let told = if granted { said == "yes" } else { said.starts_with("no") };
            if told { Ok(()) } else { Err(format!("{said} {}", String::from_utf8_lossy(&asked.stderr))) }
        })
    }

    /// A `JSONPath` of an object, empty where it is not set.
    pub fn field(&self, namespace: &str, object: &str, path: &str) -> Result<String> {
        let path = format!("--output=jsonpath={path}");
        let mut args = vec!["get", object, &path];
        if !namespace.is_empty() {
            args.extend(["--namespace", namespace]);
        }
        self.kubectl(&args)
    }

    /// Waits until a `JSONPath` of an object satisfies a test.
    pub fn wait_field(
        &self,
        namespace: &str,
        object: &str,
        path: &str,
        limit: Duration,
        test: impl Fn(&str) -> bool,
    ) -> Result<String> {
        until(limit, format!("{path} of {object}"), || {
            let seen = self.field(namespace, object, path).seen()?;
            if test(&seen) { Ok(seen) } else { Err(format!("{seen:?}")) }
        })
    }

    /// Another identity at the same control plane, by a bearer token.
    pub(super) fn with_token(&self, name: &str, token: &str) -> Result<Self> {
        let own: serde_json::Value = serde_json::from_slice(&fs::read(&self.kubeconfig)?)?;
        let cluster = |key: &str| {
            own.pointer(&format!("/clusters/0/cluster/{key}"))
                .and_then(serde_json::Value::as_str)
                .with_context(|| format!("{} has no {key}", self.kubeconfig.display()))
        };
        let path = self.dir.join(format!("{name}.kubeconfig"));
        let token = Credentials::Token(token.to_owned());
        write_kubeconfig(&path, cluster("server")?, Path::new(cluster("certificate-authority")?), &token)?;
        Ok(Self { kubeconfig: path, ..self.clone() })
    }
}
