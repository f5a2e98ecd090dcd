"""What `kline-pipeline doctor` looks at, a module per subject; examination has the order, finding what comes out."""
