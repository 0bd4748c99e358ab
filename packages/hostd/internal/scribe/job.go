// Package scribe is the process between a sandbox's sentry and the files of an image: it encrypts what the sentry saves and
// decrypts what one restores, so that a tenant's memory never lies on the disk as it was. It is a child of hostd, because it
// parses what a sentry sends, and the sentry may be in its tenant's hands: it runs under nobody's account, without
// capabilities, in an empty root, and holds nothing but the files of one image and that image's key. Each does one job and ends.
package scribe

import (
	"torpor.dev/hostd/internal/image"
)

// Work is what a scribe is for.
type Work string

const (
	// Save writes what a sentry sends.
	Save Work = "save"
	// Load gives a sentry what it asks for.
	Load Work = "load"
	// Verify reads everything back and gives the sums.
	Verify Work = "verify"
)

// Files of an image, in the order in which descriptors, sums and the digest of the whole have them.
var Files = []string{"checkpoint.img", "pages_meta.img", "pages.img"}

// Job is what a scribe is asked. With it come the image's files, then, to save or load, the socket to the sentry and the instance's lock.
type Job struct {
	Work     Work              `json:"work"`
	Image    string            `json:"image"`
	Key      []byte            `json:"key"` // The image's own.
	Compress image.Compression `json:"compress,omitempty"`
}

// Outcome is what came of it. A save or load whose Err is empty is whole.
type Outcome struct {
	Sums []image.Sum `json:"sums,omitempty"`
	// Err says what failed; Why tells what that means for the image.
	Err string `json:"err,omitempty"`
	Why Why    `json:"why,omitempty"`
}

// Why a job failed.
type Why string

const (
	Failed  Why = "failed"
	NoSpace Why = "no_space" // The disk is full, or a quota is.
	Refused Why = "refused"  // The image is damaged, or the key is wrong.
	// Unreadable says that the disk would not give what is on it. It may another time, so it is no word on the image.
	Unreadable Why = "unreadable"
)

// discard has a save write nothing more and be quick: whoever asked for it no longer wants it. Hostd's death says the same.
const discard = "discard"
