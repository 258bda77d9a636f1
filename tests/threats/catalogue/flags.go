package catalogue

// Flags that give the host away.
func flags() []Row {
	return []Row{}
}
