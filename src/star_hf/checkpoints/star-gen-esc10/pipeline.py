from star_hf import StarGenPipeline as StarGenPipeline
