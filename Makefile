# Certificates for the proxy, with the targets and variables of proxy.py's Makefile, and the files that packages install.
# Everything else is in scripts/.
#
# Existing files are kept, unless ARGS=--force; a signed certificate is made anew. See also `scripts/run ca --help`.

# What runs the proxy.
PROXY ?= scripts/run
# Where certificates are.
CERT_DIR ?= .
# In the names of the files of the CA: `-test` makes ca-cert-test.pem.
CA_CERT_SUFFIX ?=
# Where completions and man pages are written.
DIST ?= dist

certs := $(patsubst %/,%,$(or $(CERT_DIR),.))
https_cert := $(certs)/https-cert.pem
https_key := $(certs)/https-key.pem
https_signed_cert := $(certs)/https-signed-cert.pem
ca_cert := $(certs)/ca-cert$(CA_CERT_SUFFIX).pem
ca_key := $(certs)/ca-key$(CA_CERT_SUFFIX).pem
ca_signing_key := $(certs)/ca-signing-key$(CA_CERT_SUFFIX).pem

# Whether some of these files are missing, or are to be made anew.
are_wanted = [ -n "$(ARGS)" ] || for file in $(1); do [ -e "$$file" ] || break; done && ! [ -e "$$file" ]

.PHONY: help https-certificates sign-https-certificates ca-certificates completions man

help:
	@echo "make https-certificates        https-cert.pem and https-key.pem, for clients that speak TLS to the proxy"
	@echo "make ca-certificates           ca-cert.pem, ca-key.pem and ca-signing-key.pem, for TLS interception"
	@echo "make sign-https-certificates   https-signed-cert.pem: the key of the first, signed by the second"
	@echo "make completions man           completions for shells and man pages, in $(DIST)"
	@echo "CERT_DIR=DIR is where certificates are, CA_CERT_SUFFIX=-test is in the names of the CA's files."
	@echo "ARGS='...' adds flags, such as ARGS=--force or ARGS='--host proxy.lan'."

https-certificates:
	@mkdir -p $(certs)
	@if $(call are_wanted,$(https_cert) $(https_key)); then \
		$(PROXY) ca self-signed --cert-file $(https_cert) --key-file $(https_key) $(ARGS); \
	else echo "$(https_cert) and $(https_key) exist"; fi

sign-https-certificates:
	@$(PROXY) ca sign --force --cert-file $(https_signed_cert) --key-file $(https_key) \
		--ca-cert-file $(ca_cert) --ca-key-file $(ca_key) $(ARGS)

ca-certificates:
	@if $(call are_wanted,$(ca_cert) $(ca_key) $(ca_signing_key)); then \
		$(PROXY) ca init --dir $(certs) --suffix "$(CA_CERT_SUFFIX)" $(ARGS); \
	else echo "$(ca_cert), $(ca_key) and $(ca_signing_key) exist"; fi

completions:
	@mkdir -p $(DIST)/completions
	@$(PROXY) completions bash > $(DIST)/completions/proxy.bash
	@$(PROXY) completions zsh > $(DIST)/completions/_proxy
	@$(PROXY) completions fish > $(DIST)/completions/proxy.fish
	@$(PROXY) completions powershell > $(DIST)/completions/_proxy.ps1
	@$(PROXY) completions elvish > $(DIST)/completions/proxy.elv

man:
	@$(PROXY) man $(DIST)/man
