# Certificates for the proxy. Everything else is in scripts/.
#
# Existing files are not replaced, except with ARGS=--force. See also `scripts/run ca --help`.

.PHONY: help https-certificates ca-certificates

help:
	@echo "make https-certificates   https-cert.pem and https-key.pem, for clients that speak TLS to the proxy"
	@echo "make ca-certificates      ca-cert.pem, ca-key.pem and ca-signing-key.pem, for TLS interception"
	@echo "ARGS='...' adds flags, such as ARGS=--force or ARGS='--host proxy.lan'."

https-certificates:
	@scripts/run ca self-signed $(ARGS)

ca-certificates:
	@scripts/run ca init $(ARGS)
