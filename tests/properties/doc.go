// Package properties tests what holds for every launch that is accepted,
// whatever command line, profile, image configuration and site policy it is
// made of: the whole pure path from words to the OCI specification, with facts
// about the host as values.
package properties
