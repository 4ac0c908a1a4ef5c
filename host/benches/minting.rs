//! The cost of minting a certificate for a host, by the type of the CA's key.
//!
//! The rows differ only in the signature. `interception::certificates` caches certificates, so one is minted per host,
//! not per connection.

#![expect(clippy::unwrap_used, reason = "the CAs are made in this file")]

use std::hint::black_box;
use std::time::Duration;
use std::{env, fs, process};

use criterion::{Criterion, criterion_group, criterion_main};
use proxy_host::config::{InterceptionConfig, KeyPairFiles, UnknownProtocol};
use proxy_host::interception::ca::Ca;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, SignatureAlgorithm};

fn mint(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("mint");
    for (name, algorithm) in [
        ("ecdsa_p256", &rcgen::PKCS_ECDSA_P256_SHA256),
        ("ecdsa_p384", &rcgen::PKCS_ECDSA_P384_SHA384),
        ("ed25519", &rcgen::PKCS_ED25519),
        ("rsa_2048", &rcgen::PKCS_RSA_SHA256),
    ] {
        let ca = ca(algorithm);
        group.bench_function(name, |bencher| {
            bencher.iter(|| ca.mint(black_box("www.example.com")).unwrap());
        });
    }
    group.finish();
}

fn ca(algorithm: &'static SignatureAlgorithm) -> Ca {
    let dir = env::temp_dir().join(format!("proxy-minting-{}", process::id()));
    fs::create_dir_all(&dir).unwrap();
    let key = KeyPair::generate_for(algorithm).unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let file = |name: &str, content: String| {
        let path = dir.join(name);
        fs::write(&path, content).unwrap();
        path
    };
    let config = InterceptionConfig {
        ca: KeyPairFiles {
            cert_file: file("ca-cert.pem", params.self_signed(&key).unwrap().pem()),
            key_file: file("ca-key.pem", key.serialize_pem()),
        },
        signing_key_file: file(
            "ca-signing-key.pem",
            KeyPair::generate().unwrap().serialize_pem(),
        ),
        cert_dir: dir.clone(),
        include: Vec::new(),
        exclude: Vec::new(),
        insecure_hosts: Vec::new(),
        allow_fronting: Vec::new(),
        rejected_for: Duration::ZERO,
        cached_certificates: 1,
        kept_certificates: 10_000,
        kept_certificates_len: 64 << 20,
        unknown: UnknownProtocol::Relay,
        relay_protocols: Vec::new(),
    };
    let ca = Ca::load(&config).unwrap();
    fs::remove_dir_all(&dir).unwrap();
    ca
}

criterion_group!(benches, mint);
criterion_main!(benches);
