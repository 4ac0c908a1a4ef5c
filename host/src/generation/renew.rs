//! Renews the certificates of a generation: their files have changed, and nothing else is read again.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::build::{Findings, interception, tls_client, tls_listener};
use super::problem::Problems;
use super::reusable::Inputs;
use super::{Generation, ListenerPart};
use crate::config::{Config, KeyPairFiles};

/// The files with certificates and keys that a configuration names.
pub(crate) fn certificate_files(config: &Config) -> Vec<PathBuf> {
    let upstream = &config.tls.upstream;
    let interception = config.interception.as_ref();
    let of_listeners = config.listeners.iter();
    let of_listeners = of_listeners.filter_map(|listener| listener.key_pair.as_ref());
    let of_clients = upstream
        .client_certificates
        .iter()
        .map(|entry| &entry.files);
    let of_ca = interception.iter().map(|interception| &interception.ca);
    let in_pair = |pair: &KeyPairFiles| [pair.cert_file.clone(), pair.key_file.clone()];
    let pairs = of_listeners.chain(of_clients).chain(of_ca);
    let mut files: Vec<PathBuf> = pairs.flat_map(in_pair).collect();
    files.extend(upstream.extra_ca_files.iter().cloned());
    files.extend(interception.map(|interception| interception.signing_key_file.clone()));
    files
}

/// The content of these files, to be compared.
pub(super) fn content(files: &[PathBuf]) -> Inputs<()> {
    Inputs::new((), files.iter().map(|file| -> &Path { file }))
}

/// The same generation with the certificates as their files are now. `None`: their content is the same.
///
/// # Errors
/// All files that cannot be used.
pub(crate) fn renew(before: &Generation) -> Result<Option<Generation>, Problems> {
    let config = &before.config;
    let certificate_content = content(&certificate_files(config));
    if certificate_content == before.certificate_content {
        return Ok(None);
    }
    let mut findings = Findings::default();
    let tls_client = findings.note(tls_client(config, Some(before)));
    let interception = findings.note(interception(config, Some(before)));
    let listeners = before.listeners.iter().map(|listener| {
        let tls = tls_listener(&listener.config, before.server_tls.as_ref());
        Some(ListenerPart {
            tls: findings.note(tls)?,
            ..listener.clone()
        })
    });
    let listeners: Vec<Option<ListenerPart>> = listeners.collect();
    let listeners: Option<Vec<ListenerPart>> = listeners.into_iter().collect();
    let (Some(tls_client), Some(listeners), Some((interception, certificates))) =
        (tls_client, listeners, interception)
    else {
        return Err(Problems::new(findings.0, config));
    };
    Ok(Some(Generation {
        number: before.number + 1,
        certificate_content,
        listeners,
        tls_client,
        certificates,
        interception: interception.map(Arc::new),
        ..before.clone()
    }))
}
