"""Forward methods: the forward pass decomposed into what each token brought."""
