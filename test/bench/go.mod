// The peers that Incoming is measured beside, apart from what the library needs.
module github.com/incoming-mx/incoming/test/bench

go 1.26.0

require (
	github.com/emersion/go-msgauth v0.7.0
	github.com/emersion/go-smtp v0.25.1
	github.com/incoming-mx/incoming v0.0.0
	github.com/mhale/smtpd v0.8.3
	github.com/miekg/dns v1.1.73
	golang.org/x/sys v0.49.0
)

require (
	github.com/emersion/go-sasl v0.0.0-20241020182733-b788ff22d5a6 // indirect
	golang.org/x/crypto v0.58.0 // indirect
	golang.org/x/net v0.62.0 // indirect
	golang.org/x/text v0.43.0 // indirect
)

replace github.com/incoming-mx/incoming => ../..
