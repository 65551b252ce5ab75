// Package diskqueue is a queue.Queue that survives a power cut, in a directory
// on a local disk. A message of up to 128 KiB is a record in a journal, beside
// many others, unless Options.NoJournal; any other has a directory of its own,
// readable with ls and cat.
//
//	<dir>/journal/        files of records: small messages, and what becomes of them
//	<dir>/lock            held while a process uses the spool
//	<dir>/incoming/<id>/  staging: being received
//	<dir>/committed/<id>/ accepted: raw.eml, meta.json
//	<dir>/processing/<id>/ in the hands of an adapter
//	<dir>/dead/<id>/      set aside: dead.json says why
//	<dir>/trash/          being removed
//	<dir>/paused          present while deliveries are paused
//
// docs/disk-format.md describes it in full. The parts, from the outside in:
// Queue, draft and lease are the life of a message; index and schedule know in
// memory what is where and what is due, and touch no file; a tier keeps the
// bytes, and knows nothing of what is due. There are two, directory and journal,
// which tiers makes one; dead letters are always directories.
//
// The package knows no wire, no policy and no adapter.
package diskqueue
