// Package crash kills the built daemon with signal 9 at random moments under
// load, starts it again on the same spool, and wants every message that got a
// 250, byte for byte. It compiles always and runs when INCOMING_CRASH_KILLS says
// how many kills. INCOMING_SEED makes a run draw what another one drew: sizes,
// texts, adapters and the moments to kill at, not what the machine makes of them.
package crash
