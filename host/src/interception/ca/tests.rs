//! Certificates as other verifiers and parsers see them.

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, KeyPair,
    KeyUsagePurpose, NameConstraints,
};
use rustls::SignatureAlgorithm;
use x509_parser::extensions::GeneralName;

use super::*;
use crate::interception::fixtures::{self, CaFiles, Dir};

fn load(files: &CaFiles) -> Result<Ca, KeyPairError> {
    let dir = Dir::new("ca");
    Ca::load(&files.config(&dir))
}

/// One CA for each kind of key, each with a name of a different structure.
fn cas() -> Vec<Ca> {
    let mut files = vec![
        CaFiles::made_by(
            fixtures::RSA_CA,
            fixtures::RSA_CA_KEY,
            fixtures::RSA_SIGNING_KEY,
        ),
        CaFiles::made_by(
            fixtures::EC_CA,
            fixtures::EC_CA_KEY_SEC1,
            fixtures::RSA_SIGNING_KEY,
        ),
        CaFiles::made_by(
            fixtures::RSA_CA,
            fixtures::RSA_CA_KEY_PKCS1,
            fixtures::EC_CA_KEY_SEC1,
        ),
    ];
    for algorithm in [
        &rcgen::PKCS_ECDSA_P256_SHA256,
        &rcgen::PKCS_ECDSA_P384_SHA384,
        &rcgen::PKCS_ECDSA_P521_SHA512,
        &rcgen::PKCS_ED25519,
    ] {
        let key = KeyPair::generate_for(algorithm).unwrap();
        files.push(CaFiles::from_params(&fixtures::ca_params(), &key));
    }
    files.iter().map(|files| load(files).unwrap()).collect()
}

fn parsed(certificate: &CertificateDer<'_>, check: impl FnOnce(&X509Certificate<'_>)) {
    let (rest, parsed) = X509Certificate::from_der(certificate).unwrap();
    assert!(rest.is_empty());
    check(&parsed);
}

fn verify(ca: &Ca, minted: &Minted, host: &str, now: Timestamp) {
    let subject = Subject::of(host).unwrap();
    let certificate = minted.chain[0].clone();
    ca.recognise(certificate, &subject, now).unwrap();
}

#[test]
fn any_ca_signs_for_any_host() {
    let long = ["a".repeat(63), "b".repeat(63), "example.com".to_owned()].join(".");
    for ca in cas() {
        for host in [
            "www.example.com",
            "WWW.Example.com.",
            "a_b.example.com",
            "localhost",
            "192.0.2.1",
            "::1",
            "[2001:db8::1]",
            &long,
        ] {
            let minted = ca.mint(host).unwrap();
            verify(&ca, &minted, host, Timestamp::now());
        }
    }
}

#[test]
fn issuer_and_key_identifier_are_the_cas_own() {
    for ca in cas() {
        let minted = ca.mint("example.com").unwrap();
        parsed(ca.certificate_der(), |own| {
            let expected_id = own_key_id(own)
                .unwrap_or_else(|| key_id(&own.public_key().subject_public_key.data));
            parsed(&minted.chain[0], |leaf| {
                assert_eq!(leaf.issuer().as_raw(), own.subject().as_raw());
                let identifier = leaf.extensions().iter().find_map(|extension| {
                    match extension.parsed_extension() {
                        ParsedExtension::AuthorityKeyIdentifier(id) => id.key_identifier.clone(),
                        _ => None,
                    }
                });
                assert_eq!(identifier.unwrap().0, expected_id);
                assert_ne!(own_key_id(leaf).unwrap(), expected_id);
            });
        });
    }
}

#[test]
fn a_certificate_is_valid_for_its_host_only() {
    let ca = load(&CaFiles::new()).unwrap();
    for (host, expected) in [
        ("WWW.Example.COM.", GeneralName::DNSName("www.example.com")),
        ("192.0.2.1", GeneralName::IPAddress(&[192, 0, 2, 1])),
        (
            "::1",
            GeneralName::IPAddress(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
        ),
    ] {
        let minted = ca.mint(host).unwrap();
        parsed(&minted.chain[0], |leaf| {
            let names = leaf.subject_alternative_name().unwrap().unwrap();
            assert_eq!(names.value.general_names, [expected]);
            assert!(!names.critical);
        });
    }
    let minted = ca.mint("example.com").unwrap();
    for other in ["www.example.com", "com", "example.org", "127.0.0.1"] {
        let unusable = ca.recognise(
            minted.chain[0].clone(),
            &Subject::of(other).unwrap(),
            Timestamp::now(),
        );
        assert!(
            matches!(unusable, Err(UnusableCertificate::NotOurs(_))),
            "{other}"
        );
    }
}

#[test]
fn names_too_long_for_a_common_name_have_none() {
    let ca = load(&CaFiles::new()).unwrap();
    for (len, has_common_name) in [(64, true), (65, false)] {
        let host = format!("{}.example.com", "a".repeat(len - ".example.com".len()));
        let minted = ca.mint(&host).unwrap();
        parsed(&minted.chain[0], |leaf| {
            let common_name = leaf.subject().iter_common_name().next();
            assert_eq!(common_name.is_some(), has_common_name);
            let names = leaf.subject_alternative_name().unwrap().unwrap();
            assert_eq!(names.critical, !has_common_name);
        });
        verify(&ca, &minted, &host, Timestamp::now());
    }
}

#[test]
fn usages_are_those_of_a_server() {
    for ca in cas() {
        let is_rsa = ca.leaf_key().algorithm() == SignatureAlgorithm::RSA;
        let minted = ca.mint("example.com").unwrap();
        parsed(&minted.chain[0], |leaf| {
            assert_eq!(leaf.version().0, 2);
            let usage = leaf.key_usage().unwrap().unwrap();
            assert!(usage.critical);
            assert_eq!(usage.value.flags, if is_rsa { 0b101 } else { 0b1 });
            let extended = leaf.extended_key_usage().unwrap().unwrap().value;
            assert!(extended.server_auth && !extended.any && !extended.client_auth);
            assert!(!leaf.basic_constraints().unwrap().unwrap().value.ca);
            let extensions: Vec<_> = leaf
                .extensions()
                .iter()
                .map(|extension| (extension.oid.to_id_string(), extension.critical))
                .collect();
            let expected = [
                ("2.5.29.35", false),
                ("2.5.29.17", false),
                ("2.5.29.15", true),
                ("2.5.29.37", false),
                ("2.5.29.14", false),
                ("2.5.29.19", true),
            ]
            .map(|(id, is_critical)| (id.to_owned(), is_critical));
            assert_eq!(extensions, expected);
        });
    }
}

#[test]
fn validity_is_below_200_days_and_within_the_cas() {
    let now = Timestamp::now();
    let day = 86_400;
    for (ca_days, expected_days) in [(3650, 197), (10, 10)] {
        let life = Duration::from_secs(ca_days * day);
        let ca = load(&CaFiles::valid_for(life)).unwrap();
        let minted = ca
            .mint_for(&Subject::of("example.com").unwrap(), now)
            .unwrap();
        parsed(&minted.chain[0], |leaf| {
            let not_before = timestamp(leaf.validity().not_before);
            let not_after = timestamp(leaf.validity().not_after);
            let hours = |span: SignedDuration| span.as_hours();
            assert_eq!(hours(now.duration_since(not_before)), 48);
            let ahead = not_after.duration_since(now).as_secs_f64() / day as f64;
            assert!((ahead - expected_days as f64).abs() < 0.001, "{ahead}");
            assert!(hours(not_after.duration_since(not_before)) < 200 * 24);
            assert!(not_after <= ca.not_after);
        });
    }
}

#[test]
fn years_after_2049_are_written_in_full() {
    let files = CaFiles::made_by(
        fixtures::EC_CA,
        fixtures::EC_CA_KEY_SEC1,
        fixtures::RSA_SIGNING_KEY,
    );
    let ca = load(&files).unwrap();
    let subject = Subject::of("example.com").unwrap();
    for (day, years_have_two_digits) in [
        ("2049-02-01T00:00:00Z", [true, true]),
        ("2049-08-01T00:00:00Z", [true, false]),
        ("2060-01-01T00:00:00Z", [false, false]),
    ] {
        let now = day.parse().unwrap();
        let minted = ca.mint_for(&subject, now).unwrap();
        parsed(&minted.chain[0], |leaf| {
            let validity = leaf.validity();
            let times = [validity.not_before, validity.not_after];
            assert_eq!(times.map(|time| time.is_utctime()), years_have_two_digits);
        });
        verify(&ca, &minted, "example.com", now);
    }
}

#[test]
fn nothing_is_signed_once_the_ca_has_expired() {
    let ca = load(&CaFiles::valid_for(Duration::from_secs(3600))).unwrap();
    let later = Timestamp::now() + SignedDuration::from_hours(2);
    let outcome = ca.mint_for(&Subject::of("example.com").unwrap(), later);
    assert!(matches!(outcome, Err(MintError::CaExpired(_))));
}

#[test]
fn serials_are_positive_long_and_unique() {
    let ca = load(&CaFiles::new()).unwrap();
    let mut serials = std::collections::HashSet::new();
    for _ in 0..200 {
        let minted = ca.mint("example.com").unwrap();
        parsed(&minted.chain[0], |leaf| {
            let serial = leaf.raw_serial();
            assert_eq!(serial.len(), 20);
            assert!(serial[0] < 0x80 && serial[0] >= 0x40);
            assert!(serials.insert(serial.to_vec()));
        });
    }
}

#[test]
fn invalid_hosts_get_no_certificate() {
    let ca = load(&CaFiles::new()).unwrap();
    for host in ["", "*.example.com", "../etc/passwd", "a b"] {
        let outcome = ca.mint(host);
        assert!(matches!(outcome, Err(MintError::HostInvalid(_))), "{host}");
    }
}

#[test]
fn only_intermediate_cas_are_sent() {
    let root = load(&CaFiles::new()).unwrap();
    assert_eq!(root.mint("example.com").unwrap().chain.len(), 1);

    let root_key = KeyPair::generate().unwrap();
    let mut root_params = fixtures::ca_params();
    root_params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = root_params.self_signed(&root_key).unwrap();
    let issuer = rcgen::Issuer::new(root_params, root_key);
    let key = KeyPair::generate().unwrap();
    let mut params = fixtures::ca_params();
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, "an intermediate CA");
    let intermediate = params.signed_by(&key, &issuer).unwrap();
    let files = CaFiles::made_by(
        &[intermediate.pem(), root.pem()].concat(),
        &key.serialize_pem(),
        fixtures::EC_CA_KEY_SEC1,
    );
    let ca = load(&files).unwrap();
    let minted = ca.mint("example.com").unwrap();
    assert_eq!(minted.chain[1..], [intermediate.der().clone()]);
    verify(&ca, &minted, "example.com", Timestamp::now());
}

#[test]
fn unusable_cas_are_refused_with_their_file() {
    let key = KeyPair::generate().unwrap();
    let with = |change: fn(&mut CertificateParams)| {
        let mut params = fixtures::ca_params();
        change(&mut params);
        CaFiles::from_params(&params, &key)
    };
    let good = CaFiles::new();
    let ed25519 = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    for (files, expected) in [
        (
            with(|params| params.is_ca = IsCa::ExplicitNoCa),
            "ca-cert.pem: is not a CA certificate",
        ),
        (
            with(|params| params.is_ca = IsCa::NoCa),
            "ca-cert.pem: is not a CA certificate",
        ),
        (
            with(|params| params.key_usages = vec![KeyUsagePurpose::DigitalSignature]),
            "ca-cert.pem: is a certificate that may not sign others",
        ),
        (
            with(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]),
            "ca-cert.pem: is a certificate that may not sign for servers",
        ),
        (
            with(|params| {
                let everywhere = ["0.0.0.0/0", "::/0"]
                    .map(|network| GeneralSubtree::IpAddress(network.parse().unwrap()));
                let every_name = GeneralSubtree::DnsName(String::new());
                params.name_constraints = Some(NameConstraints {
                    permitted_subtrees: Vec::new(),
                    excluded_subtrees: [&everywhere[..], &[every_name]].concat(),
                });
            }),
            "ca-cert.pem: contains a CA certificate whose name constraints exclude every host",
        ),
        (
            with(|params| params.not_after = rcgen::date_time_ymd(2020, 1, 1)),
            "ca-cert.pem: expired on 2020-01-01T00:00:00Z;",
        ),
        (
            with(|params| params.not_before = rcgen::date_time_ymd(3000, 1, 1)),
            "ca-cert.pem: is not yet valid (valid from 3000-01-01T00:00:00Z);",
        ),
        (
            CaFiles {
                key: fixtures::EC_CA_KEY_SEC1.to_owned(),
                ..good.clone()
            },
            "ca-key.pem: is not the key of the certificate in ",
        ),
        (
            CaFiles {
                signing_key: fixtures::KEY_ENCRYPTED_PKCS8.to_owned(),
                ..good.clone()
            },
            "ca-signing-key.pem: contains an encrypted private key",
        ),
        (
            CaFiles {
                signing_key: ed25519.serialize_pem(),
                ..good.clone()
            },
            "ca-signing-key.pem: contains a private key that browsers do not accept",
        ),
        (
            CaFiles {
                signing_key: String::new(),
                ..good
            },
            "ca-signing-key.pem: contains no private key",
        ),
    ] {
        let error = load(&files).unwrap_err().to_string();
        let (_, fault) = error.split_once("/ca-").unwrap();
        assert!(format!("ca-{fault}").starts_with(expected), "{error}");
    }
}

/// A CA below a root, with both certificates in its file.
fn below_root(
    change_root: fn(&mut CertificateParams),
    change: fn(&mut CertificateParams),
) -> Result<Ca, String> {
    let root_key = KeyPair::generate().unwrap();
    let mut root_params = fixtures::ca_params();
    root_params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    change_root(&mut root_params);
    let root = root_params.self_signed(&root_key).unwrap();
    let issuer = rcgen::Issuer::new(root_params, root_key);
    let key = KeyPair::generate().unwrap();
    let mut params = fixtures::ca_params();
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, "below");
    change(&mut params);
    let files = CaFiles::made_by(
        &[params.signed_by(&key, &issuer).unwrap().pem(), root.pem()].concat(),
        &key.serialize_pem(),
        fixtures::EC_CA_KEY_SEC1,
    );
    load(&files).map_err(|error| error.fault.to_string())
}

#[test]
fn an_issuer_above_that_forbids_every_certificate_is_named() {
    let no_change: fn(&mut CertificateParams) = |_| {};
    assert!(below_root(no_change, no_change).is_ok());
    for (change, expected) in [
        (
            (|params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)))
                as fn(&mut CertificateParams),
            "contains 1 CA certificates below CN=a CA, whose path length allows 0,",
        ),
        (
            |params| params.key_usages = vec![KeyUsagePurpose::DigitalSignature],
            "contains a CA certificate whose issuer, CN=a CA, may not sign others",
        ),
        (
            |params| params.is_ca = IsCa::ExplicitNoCa,
            "contains a CA certificate whose issuer, CN=a CA, may not sign others",
        ),
        (
            |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::EmailProtection],
            "contains a CA certificate whose issuer, CN=a CA, may not sign for servers",
        ),
    ] {
        let fault = below_root(change, no_change).unwrap_err();
        assert!(fault.starts_with(expected), "{fault}");
        assert!(fault.ends_with("; create one with proxy ca init") || fault.contains("; "));
    }
}

#[test]
fn uses_that_include_servers_allow_every_certificate() {
    for usage in [
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::Any,
    ] {
        let mut params = fixtures::ca_params();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, usage];
        let files = CaFiles::from_params(&params, &KeyPair::generate().unwrap());
        assert!(load(&files).unwrap().may_sign_for("example.com"));
    }
}

#[test]
fn name_constraints_limit_the_hosts() {
    let permit = |params: &mut CertificateParams| {
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: vec![GeneralSubtree::DnsName("corp.test".to_owned())],
            excluded_subtrees: Vec::new(),
        });
    };
    let no_change: fn(&mut CertificateParams) = |_| {};
    for ca in [below_root(permit, no_change), below_root(no_change, permit)] {
        let ca = ca.unwrap();
        for (host, expected) in [
            ("corp.test", true),
            ("a.corp.test", true),
            ("example.com", false),
            ("192.0.2.1", true),
        ] {
            assert_eq!(ca.may_sign_for(host), expected, "{host}");
        }
    }
}
