// Package filters has the built daemon ask filters that are not ours: rspamd, as a
// milter and over HTTP, and OpenDKIM. A message that rspamd must refuse is refused
// by both roads, one that it marks is marked, and what OpenDKIM says of a signature
// stands in the message.
//
// It compiles always and runs when INCOMING_FILTERS is 1. A filter that is not
// installed is a test skipped, and with CI set a test failed.
package filters
