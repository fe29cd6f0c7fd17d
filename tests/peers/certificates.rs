//! A CA of the test's own and what it signs, made with the `openssl` command as an administrator would.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::run;
use crate::common::TempDir;

/// `openssl ca` with a database, so that a certificate can be revoked and have expired.
const CONFIG: &str = r#"
[ca]
default_ca = here
[here]
database = {dir}/index
crlnumber = {dir}/crlnumber
rand_serial = yes
new_certs_dir = {dir}
certificate = {dir}/ca.pem
private_key = {dir}/ca.key
default_md = sha256
default_days = 2
default_crl_days = 2
policy = any
unique_subject = no
copy_extensions = copy
x509_extensions = leaf
[any]
commonName = supplied
[leaf]
basicConstraints = critical,CA:FALSE
authorityKeyIdentifier = keyid
[req]
distinguished_name = subject
x509_extensions = authority
[subject]
[authority]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
"#;

pub struct Ca {
    folder: TempDir,
}

impl Ca {
    pub fn new(name: &str) -> Self {
        let ca = Self { folder: tempfile::tempdir().expect("a folder") };
        std::fs::write(ca.path("ca.cnf"), CONFIG.replace("{dir}", &ca.folder.path().display().to_string())).expect("written");
        std::fs::write(ca.path("index"), "").expect("written");
        std::fs::write(ca.path("crlnumber"), "01\n").expect("written");
        let subject = format!("/CN={name}");
        ca.openssl(
            &["req", "-x509", "-config", "ca.cnf", "-days", "2", "-subj", &subject, "-out", "ca.pem", "-keyout", "ca.key"],
            &EC_KEY,
        );
        ca
    }

    /// `NAME.pem` and `NAME.key`, for a server on this host and a client alike. RSA, so that the cipher suites of
    /// RFC 5425 can be had.
    pub fn server(&self, name: &str) {
        self.request(name, &format!("DNS:{name},DNS:localhost,IP:127.0.0.1"), &["-newkey", "rsa:2048", "-nodes"]);
        self.sign(name, &[]);
    }

    pub fn client(&self, name: &str) {
        self.request(name, &format!("DNS:{name}"), &EC_KEY);
        self.sign(name, &[]);
    }

    /// Was good for two days, long ago.
    pub fn expired_client(&self, name: &str) {
        self.request(name, &format!("DNS:{name}"), &EC_KEY);
        self.sign(name, &["-startdate", "20200101000000Z", "-enddate", "20200103000000Z"]);
    }

    /// `crl.pem`
    pub fn revoke(&self, name: &str) {
        self.openssl(&["ca", "-config", "ca.cnf", "-revoke", &format!("{name}.pem")], &[]);
        self.openssl(&["ca", "-config", "ca.cnf", "-gencrl", "-out", "crl.pem"], &[]);
    }

    /// `old.pem`: a list of version 1, which RFC 5280 (section 5.1.2.1) allows to no CA any more.
    pub fn old_revocation_list(&self) {
        let text = std::fs::read_to_string(self.path("ca.cnf")).expect("written by us");
        std::fs::write(self.path("old.cnf"), text.replace("crlnumber", "#")).expect("written");
        self.openssl(&["ca", "-config", "old.cnf", "-gencrl", "-out", "old.pem"], &[]);
    }

    /// As penstock's option `peers` and its log have it.
    pub fn fingerprint(&self, name: &str) -> String {
        let text = self.openssl(&["x509", "-noout", "-sha256", "-fingerprint", "-in", &format!("{name}.pem")], &[]);
        let (_, digest) = text.trim().split_once('=').expect("sha256 Fingerprint=…");
        format!("sha-256:{digest}")
    }

    pub fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn request(&self, name: &str, names: &str, key: &[&str]) {
        let (request, key_file) = (format!("{name}.csr"), format!("{name}.key"));
        let (subject, names) = (format!("/CN={name}"), format!("subjectAltName={names}"));
        let options =
            ["req", "-new", "-config", "ca.cnf", "-subj", &subject, "-addext", &names, "-out", &request, "-keyout", &key_file];
        self.openssl(&options, key);
    }

    fn sign(&self, name: &str, validity: &[&str]) {
        let (request, certificate) = (format!("{name}.csr"), format!("{name}.pem"));
        self.openssl(&["ca", "-batch", "-notext", "-config", "ca.cnf", "-in", &request, "-out", &certificate], validity);
    }

    fn openssl(&self, arguments: &[&str], more: &[&str]) -> String {
        run(Command::new("openssl").args(arguments).args(more).current_dir(self.folder.path()), b"")
    }
}

const EC_KEY: [&str; 5] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
