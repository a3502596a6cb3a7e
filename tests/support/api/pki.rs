//! Keys and certificates of one control plane, all by one authority, made by the openssl command.

use crate::parts::command;
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// How long certificates hold: longer than any test bed lives.
const DAYS: &str = "365";

/// A certificate with its key.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// PEM file.
    pub certificate: PathBuf,
    /// PEM file.
    pub key: PathBuf,
}

/// The authority and what it signed, as files in one folder.
#[derive(Clone, Debug)]
pub struct Pki {
    dir: PathBuf,
}

impl Pki {
    /// Makes the authority and the key that signs service account tokens.
    pub fn create(dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
        let pki = Self { dir: dir.to_owned() };
        let ca = pki.pair("ca");
        openssl(
            &["req", "-x509", "-nodes", "-days", DAYS, "-subj", "/CN=testbed-ca"],
            &NEW_KEY,
            &ca.key,
            &ca.certificate,
        )?;
        let key = pki.service_account_key();
        command::output(
            Command::new("openssl")
                .args(["genpkey", "-algorithm", "EC", "-pkeyopt", CURVE, "-out"])
                .arg(&key),
        )?;
        command::output(
            Command::new("openssl")
                .args(["pkey", "-pubout", "-in"])
                .arg(&key)
                .arg("-out")
                .arg(pki.service_account_public()),
        )?;
        Ok(pki)
    }

    /// The authority's own certificate.
    pub fn authority(&self) -> PathBuf {
        self.pair("ca").certificate
    }

    /// The key that signs service account tokens.
    pub fn service_account_key(&self) -> PathBuf {
        self.dir.join("service-account.key")
    }

    /// The key that checks service account tokens.
    pub fn service_account_public(&self) -> PathBuf {
        self.dir.join("service-account.pub")
    }

    /// A server's certificate for these names, each as `IP:…` or `DNS:…`.
    pub fn server(&self, name: &str, names: &[String]) -> Result<Certificate> {
        let extension = format!("subjectAltName={}\nextendedKeyUsage=serverAuth\n", names.join(","));
        self.sign(name, &format!("/CN={name}"), &extension)
    }

    /// A client's certificate: the user's name, and the group if any.
    pub fn client(&self, name: &str, user: &str, group: Option<&str>) -> Result<Certificate> {
        let organisation = group.map(|group| format!("/O={group}")).unwrap_or_default();
        self.sign(name, &format!("{organisation}/CN={user}"), "extendedKeyUsage=clientAuth\n")
    }

    fn sign(&self, name: &str, subject: &str, extension: &str) -> Result<Certificate> {
        let made = self.pair(name);
        let ca = self.pair("ca");
        let request = self.dir.join(format!("{name}.csr"));
        let extensions = self.dir.join(format!("{name}.ext"));
        fs::write(&extensions, extension).with_context(|| extensions.display().to_string())?;
        openssl(&["req", "-nodes", "-subj", subject], &NEW_KEY, &made.key, &request)?;
        let mut sign = Command::new("openssl");
        sign.args(["x509", "-req", "-days", DAYS, "-CAcreateserial"]);
        for (flag, path) in [
            ("-in", &request),
            ("-CA", &ca.certificate),
            ("-CAkey", &ca.key),
            ("-extfile", &extensions),
            ("-out", &made.certificate),
        ] {
            sign.arg(flag).arg(path);
        }
        command::output(&mut sign)?;
        Ok(made)
    }

    fn pair(&self, name: &str) -> Certificate {
        Certificate {
            certificate: self.dir.join(format!("{name}.crt")),
            key: self.dir.join(format!("{name}.key")),
        }
    }
}

const CURVE: &str = "ec_paramgen_curve:P-256";
const NEW_KEY: [&str; 4] = ["-newkey", "ec", "-pkeyopt", CURVE];

fn openssl(first: &[&str], second: &[&str], key: &Path, out: &Path) -> Result<()> {
    let mut openssl = Command::new("openssl");
    openssl.args(first).args(second).arg("-keyout").arg(key).arg("-out").arg(out);
    command::output(&mut openssl).map(|_| ())
}
