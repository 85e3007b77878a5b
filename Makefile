# An index: every target is one line and does its work elsewhere. `make demo PREFIX=DIR` keeps its state in DIR.
CARGO ?= cargo
export CARGO BINDIR DATADIR DESTDIR
.PHONY: demo test check integration guest-test bench install

demo:        ; integration/demo                             # pull python:3.8.5-alpine and run Python in it
test:        ; integration/test                             # every test: unit, golden, integration
check:       ; integration/check                            # what needs no root: format, lints, unit tests
integration: ; integration/test only-integration            # the tests on a real kernel
guest-test:  ; integration/guest                            # tests that want systemd, pure cgroup v2 or criu: Linux 6.1, emulated
bench:       ; integration/bench                            # ratios to the peers, in one run
install:     ; integration/install-programs                 # programs, manual pages, completions below /usr/local
