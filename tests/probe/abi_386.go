package main

// otherABIs: a 32-bit program has only the one table.
var otherABIs = map[string]func() error{}
