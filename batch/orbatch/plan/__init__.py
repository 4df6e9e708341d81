"""From a batch to priced jobs; spends nothing."""
